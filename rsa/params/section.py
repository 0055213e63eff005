"""Common parts of all section classes: their base class, types of numbers and names, and suggestions for unknown names."""

import difflib
import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1)]  # [0, 1]
Inside = Annotated[float, Field(gt=0, lt=1)]  # (0, 1)
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]*$")]  # part of paths and of DVC's stage names
Range = Annotated[tuple[float, float], Field(strict=False)]  # YAML has no tuples: [low, high]
Pair = Annotated[tuple[Fraction, Fraction], Field(strict=False)]  # of the first and the second view, or Adam's betas
Precision = Literal["float32", "bf16"]
ProtocolName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]  # as the literature's names: rsa-small


def _quotable(path: str) -> str:
    """Return the path. Raises ValueError if it is empty, or if a shell would change it inside the double quotes of dvc.yaml."""
    if not path:
        raise ValueError("a path must not be empty")
    if refused := re.search(r'^~|[$"`\\\x00-\x1f\x7f]', path):
        raise ValueError(f"a path must be written out, without {refused[0]!r}, which is not expanded, got {path!r}")
    return path


FilePath = Annotated[str, AfterValidator(_quotable)]  # of a file or folder that a command of dvc.yaml names


class Section(BaseModel):
    """A mapping in params.yaml: exactly these keys, of exactly these types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def require_ordered(name: str, pair: tuple[float, float], low: float, high: float) -> None:
    """Raise ValueError unless `pair` is a range inside [low, high]."""
    if not low <= pair[0] <= pair[1] <= high:
        raise ValueError(f"{name} must be [low, high] with {low} <= low <= high <= {high}, got {list(pair)}")


def require_known(key: str, name: str, known: Iterable[str], what: str) -> None:
    """Raise ValueError, with the nearest known name, unless `name` is known."""
    if name not in (known := list(known)):
        raise ValueError(f"{key} must be {what}, got {name!r}{nearest(name, known)}")


def require_unique(key: str, values: list[Any]) -> None:
    """Raise ValueError if the list has duplicates."""
    if len(set(values)) < len(values):
        raise ValueError(f"{key} must not name anything twice, got {values}")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ` (did you mean ...?)`, or the known names if none is near and there are few."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    if close:
        return f" (did you mean {' or '.join(close)}?)"
    return f" (known: {', '.join(known)})" if 0 < len(known) <= 20 else ""
