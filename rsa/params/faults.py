"""Readable messages for faults in a document: each with its key, the expected and the actual value."""

from collections.abc import Sequence
from typing import Any

from rsa.params.section import Section, nearest

Location = tuple[int | str, ...]


def explained(faults: Sequence[Any], document: Any, prefix: Location = ()) -> list[str]:
    """Format each pydantic error as one line; `prefix` is the errors' location in the document."""
    missing = [(*prefix, *fault["loc"]) for fault in faults if fault["type"] == "missing"]
    return [_explain(fault, (*prefix, *fault["loc"]), document, missing) for fault in faults]


def _explain(fault: Any, loc: Location, document: Any, missing: list[Location]) -> str:
    key = _key(loc, document, fault["type"] == "missing")
    context = fault.get("ctx", {})
    match fault["type"]:
        case "extra_forbidden":  # a misspelt key is missing under its right name
            *section, name = loc
            known = [str(other[-1]) for other in missing if list(other[:-1]) == section] or _all_keys()
            return f"{key} is not a known key{nearest(str(name), known)}"
        case "missing":
            return f"{key} is missing"
        case "value_error":
            return f"{key}: {context['error']}" if key else str(context["error"])
        case "union_tag_invalid":
            tags = context["expected_tags"].replace("'", "").split(", ")
            discriminator = context["discriminator"].strip("'")
            return f"{key}.{discriminator} must be a known name, got {context['tag']!r}{nearest(context['tag'], tags)}"
        case "union_tag_not_found":
            discriminator = context["discriminator"].strip("'")
            return f"{key}.{discriminator} is missing"
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"{key or 'the document'} must be a mapping, got {fault['input']!r}"
    contract = fault["msg"].partition(" should ")[2]  # of "Input should be ...", "List should have ...", ...
    return f"{key} must {contract}, got {fault['input']!r}"


def _key(loc: Location, document: Any, missing: bool) -> str:
    """Return the dotted key in the user's file: pydantic's location without union tags; the last part may be missing."""
    parts, here = [], document
    for i, part in enumerate(loc):
        inside = part in here if isinstance(here, dict) else isinstance(here, list) and part in range(len(here))
        if inside or (missing and i == len(loc) - 1):
            parts.append(str(part))
        if inside:
            here = here[part]
    return ".".join(parts)


def _all_keys() -> list[str]:
    sections = [Section]
    for section in sections:  # grows while it is read: all descendants
        sections.extend(section.__subclasses__())
    return sorted({key for section in sections for key in section.model_fields})
