"""What a source is, and the contract that each one is held to."""

import io
import re
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from PIL import Image
from pydantic import model_validator

from rsa.data.splits import balanced, held_out
from rsa.params.section import Inside, Section

# of image files -> of members in shards
EXTENSIONS = {
    **{name: name for name in ("jpg", "png", "bmp", "webp", "tiff", "ppm")},
    **{"jpeg": "jpg", "tif": "tiff"},
}
PRETRAIN = "pretrain"  # an optional split for pretraining alone (else it reads `train`); its labels may be -1, unknown


class WithTest(Section):
    """A data set with a test split of its own, or with a share of each training class held out for one."""

    test_fraction: Inside | None

    @model_validator(mode="after")
    def _one_test_split(self) -> Self:
        if (getattr(self, "test") is None) == (self.test_fraction is None):  # noqa: B009 - of the class below
            raise ValueError("exactly one of `test` and `test_fraction` must be set, the other null")
        return self


class Sample(NamedTuple):
    """One labelled image, not read yet."""

    key: str  # unique within its split; no dot: WebDataset ends a key there
    extension: str  # of the encoded bytes: jpg, png, ...
    label: int
    origin: str  # where the source keeps it, for messages and for `read`


@dataclass(frozen=True)
class Source:
    """Class names, the samples of every split, and how to read one's encoded bytes.

    `read` keeps no open file: it works after a fork, and pickled in a new process. Pickled, it can be as large as a list of
    all names, so hand it to a worker once, by fork or through the pool's initializer. It raises ValueError or OSError.
    """

    classes: list[str]
    splits: dict[str, list[Sample]]
    read: Callable[[Sample], bytes]


@dataclass(frozen=True)
class ReadOrigin:
    """`Source.read` where the origin alone says what to read."""

    read: Callable[[str], bytes]

    def __call__(self, sample: Sample) -> bytes:
        """The encoded bytes of a sample."""
        return self.read(sample.origin)


@dataclass(frozen=True)
class ReadKey:
    """`Source.read` of images that are held in memory."""

    encoded: dict[str, bytes]

    def __call__(self, sample: Sample) -> bytes:
        """The encoded bytes of a sample."""
        return self.encoded[sample.key]


def key_of(name: str) -> str:
    """A file's name as a key: without its extension, all but ASCII letters, digits, `_`, `-` and `/` made `_`."""
    return re.sub(r"[^\w/-]", "_", name.rpartition(".")[0], flags=re.ASCII)


def png(image: Image.Image) -> bytes:
    """Pixels that no file keeps, losslessly encoded."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def without_test(
    where: str, train: list[Sample], classes: list[str], fraction: float, seed: int
) -> tuple[list[Sample], list[Sample]]:
    """(train, test): `fraction` of each class held out of a training split for which there is no test split."""
    try:
        kept, out = held_out(np.array([sample.label for sample in train]), classes, fraction, seed)
    except ValueError as why:
        raise ValueError(f"{where}: {why}") from None
    return [train[i] for i in kept], [train[i] for i in out]


def subset(where: str, samples: list[Sample], classes: list[str], count: int | None, seed: int) -> list[Sample]:
    """`count` samples, as many of each class; None: all."""
    if count is None:
        return samples
    try:
        return [samples[i] for i in balanced(np.array([sample.label for sample in samples]), classes, count, seed)]
    except ValueError as why:
        raise ValueError(f"{where}: {why}") from None


def checked(where: str, source: Source) -> Source:
    """`source`, if it keeps the contract.

    ValueError where a split is empty, a label is outside of the classes, or two keys of a split are equal but for their case
    (one of the two files would be lost where the shards are unpacked).
    """
    for split, samples in source.splits.items():
        if not samples:
            raise ValueError(f"{where}: split {split!r} must have images, got none")
        lowest = -1 if split == PRETRAIN else 0
        for sample in samples:
            if not lowest <= sample.label < len(source.classes):
                raise ValueError(
                    f"{where}: split {split!r}: the label of {sample.origin} must be in [{lowest}, {len(source.classes) - 1}], "
                    f"got {sample.label}" + (f"; unlabelled images are for the split {PRETRAIN!r}" if sample.label == -1 else "")
                )
        _unique(f"{where}: split {split!r}", samples)
    return source


def _unique(where: str, samples: list[Sample]) -> None:
    origin_of: dict[str, str] = {}
    for key, extension, _, origin in samples:
        other = origin_of.setdefault(key.casefold(), origin)
        if other is not origin:
            raise ValueError(
                f"{where}: {other} and {origin} both get the key {key!r} (upper and lower case count as the same): "
                "rename one of them"
            )
        if len(key) > 90 and not _fits(f"{key}.{extension}"):
            raise ValueError(f"{where}: {origin} must have a shorter name: {key!r} doesn't fit into a tar's header")


def _fits(name: str) -> bool:
    try:
        tarfile.TarInfo(name).tobuf(tarfile.USTAR_FORMAT)
    except ValueError:
        return False
    return True


def is_hidden(name: str) -> bool:
    """Is a file or any folder above it named `.something` or `__MACOSX`?  (`./` at the start doesn't count.)"""
    return "/." in f"/{name.removeprefix('./')}" or "__MACOSX" in name
