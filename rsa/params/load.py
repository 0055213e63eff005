"""Loading and validation of a complete params.yaml. Imports every section's class, so import it only where all are needed."""

from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from rsa.data.sources import Dataset
from rsa.methods import settings_of
from rsa.models.image_sizes import require_sizes
from rsa.params.document import Params
from rsa.params.faults import explained
from rsa.params.sections import read_document


def load(path: Path) -> Params:
    """Load and validate the document at `path`; raise ValueError that lists every fault with its key."""
    document = read_document(path)
    p, faults = _validated(document, Params, ())
    for section in ("datasets", "methods"):
        values = document.get(section) if isinstance(document, dict) else None
        for name, entry in values.items() if isinstance(values, dict) else ():
            typed, wrong = _entry(document, section, name, entry)
            faults += wrong
            if p is not None and not wrong:
                getattr(p, section)[name] = typed
    if p is not None and not faults:
        try:
            require_sizes(p.model, image_sizes(p))
        except ValueError as why:
            faults.append(str(why))
    if faults:
        raise ValueError("\n".join(f"{path}: {fault}" for fault in faults))
    loaded: Params = p
    return loaded


def image_sizes(p: Params) -> dict[str, int]:
    """Return the sizes of the images that the backbone sees, in px, by their key."""
    sizes = p.views.sizes | {"evaluation.crop": p.evaluation.crop}
    for name, protocol in p.linear.protocols.items() if p.linear.datasets else ():
        if protocol.geometry is not None:
            sizes[f"linear.protocols.{name}.geometry.crop"] = protocol.geometry.crop
    return sizes


def _entry(document: Any, section: str, name: str, entry: Any) -> tuple[Any, list[str]]:
    """Validate a dataset or method by its class; return it and its faults."""
    where = (section, name)
    if not isinstance(entry, dict):
        return None, [f"{section}.{name} must be a mapping, got {entry!r}"]
    if section == "datasets":
        return _validated(document, Dataset, where, entry)
    try:
        return _validated(document, settings_of(entry), where, entry)
    except ValueError as why:
        return None, [f"{section}.{name}.{why}"]


def _validated(document: Any, kind: Any, where: tuple[str, ...], values: Any = None) -> tuple[Any, list[str]]:
    try:
        return TypeAdapter(kind).validate_python(values if where else document), []
    except ValidationError as why:
        return None, explained(why.errors(), document, where)
