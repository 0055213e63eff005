"""Reading of individual sections of params.yaml, without validating the others."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from rsa.params.faults import explained


class At(NamedTuple):
    """Location of a section, for `Annotated`: its dotted name, with a stage's flags in braces, as in `methods.{method}`.

    `type_of` gives the class of the values that are there, where the values themselves say which it is.
    """

    dotted: str
    type_of: Callable[[dict[str, Any]], type] | None = None


def read_document(path: Path) -> Any:
    """Load a YAML file as plain values; raise ValueError if it is missing or invalid."""
    try:
        return YAML(typ="safe", pure=True).load(path.read_text())  # not in C, which deep nesting makes crash
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist: write one by `python -m rsa recipe NAME`") from None
    except (YAMLError, ValueError, RecursionError) as why:  # bytes that are no text, numbers of thousands of digits, deep nesting
        raise ValueError(f"{path} is not valid YAML: {' '.join(str(why).split())}") from None


def read_sections(path: Path, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return sections by dotted name, each validated as its type, or as the type that an `At` gives for its values.

    Raises ValueError that lists every fault with its key.
    """
    document = read_document(path)
    sections, faults = {}, []
    for dotted, kind in wanted.items():
        try:
            values = value_at(document, dotted)
            if isinstance(kind, At):
                kind = kind.type_of(values) if kind.type_of is not None and isinstance(values, dict) else dict[str, Any]
            sections[dotted] = TypeAdapter(kind).validate_python(values)
        except KeyError:
            faults.append(f"{dotted} is missing")
        except ValidationError as why:
            faults += explained(why.errors(), document, tuple(dotted.split(".")))
        except ValueError as why:
            faults.append(f"{dotted}.{why}")
    if faults:
        raise ValueError("\n".join(f"{path}: {fault}" for fault in faults))
    return sections


def value_at(document: Any, dotted: str) -> Any:
    """Return the value at a dotted name; raise KeyError if there is none."""
    for key in dotted.split("."):
        if not isinstance(document, dict):
            raise KeyError(dotted)
        document = document[key]
    return document


def plain(value: Any) -> Any:
    """Convert a section, or a mapping of sections, to dicts, lists and numbers."""
    return TypeAdapter(Any).dump_python(value, mode="json")


def flat(document: Any, prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings to their leaves by dotted name; an empty mapping is a leaf."""
    if not isinstance(document, dict) or not document:
        return {prefix: document}
    leaves: dict[str, Any] = {}
    for key, inner in document.items():
        leaves |= flat(inner, f"{prefix}.{key}" if prefix else str(key))
    return leaves


def sha256(values: Any) -> str:
    """Hash sections or plain values."""
    return hashlib.sha256(json.dumps(plain(values), sort_keys=True).encode()).hexdigest()
