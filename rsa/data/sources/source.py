"""What a source is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple


class Sample(NamedTuple):
    """One labelled image, not read yet."""

    key: str  # unique within its split; no dot: WebDataset ends a key there
    extension: str  # of the encoded bytes: jpg, png, ...
    label: int
    origin: str  # where the source keeps it, for messages and for `read`


@dataclass(frozen=True)
class Source:
    """Class names, the samples of every split, and how to read one's encoded bytes."""

    classes: list[str]
    splits: dict[str, list[Sample]]
    read: Callable[[Sample], bytes]
