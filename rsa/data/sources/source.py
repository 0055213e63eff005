"""The interface of a source, and the check of its contract."""

import hashlib
import io
import re
import tarfile
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Self

import numpy as np
from PIL import Image
from pydantic import model_validator

from rsa.data.splits import balanced, held_out
from rsa.params.section import Inside, Section

# extension of an image file -> extension in shards
EXTENSIONS = {
    **{name: name for name in ("jpg", "png", "bmp", "webp", "tiff", "ppm", "pgm")},
    **{"jpeg": "jpg", "jpe": "jpg", "jfif": "jpg", "tif": "tiff"},
}
PRETRAIN = "pretrain"  # an optional split for pretraining alone (else it reads `train`); its labels may be -1, unknown
SYSTEMS = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "lost+found")  # folders of macOS, Synology, Windows, Linux: copies, thumbnails
LONGEST = 60  # characters kept of a key that does not fit into a tar's header
SHORT = 90  # characters of a key that fits with any extension: a tar's header has 100 bytes for a name


class WithTest(Section):
    """Section of a data set with its own test split, or with a fraction of each training class held out."""

    test_fraction: Inside | None

    @model_validator(mode="after")
    def _one_test_split(self) -> Self:
        if (getattr(self, "test") is None) == (self.test_fraction is None):  # noqa: B009 - defined by subclasses
            raise ValueError("exactly one of `test` and `test_fraction` must be set, the other null")
        return self

    @model_validator(mode="after")
    def _another_test_split(self) -> Self:
        test = getattr(self, "test")  # noqa: B009 - as above
        if test is not None and test == getattr(self, "train"):  # noqa: B009
            raise ValueError(f"test must be another split than train, got {test} twice")
        return self


class Sample(NamedTuple):
    """One labelled image that has not been read yet."""

    key: str  # unique within its split, without a dot, at which WebDataset ends a key
    extension: str  # of the encoded bytes: jpg, png, ...
    label: int
    origin: str  # location in the source, for messages and for `read`


@dataclass(frozen=True)
class Source:
    """Class names, the samples of every split, a function that reads a sample's encoded bytes, and what else was found.

    `read` keeps no file open, so it works after a fork and can be pickled. A pickle can be as large as a list of all names,
    so pass it to a worker once, by fork or through the pool's initializer. It raises ValueError or OSError.
    """

    classes: list[str]
    splits: dict[str, list[Sample]]
    read: Callable[[Sample], bytes]
    left_out: dict[str, int] = field(default_factory=dict)  # extension -> number of files that no split has


@dataclass(frozen=True)
class ReadOrigin:
    """`Source.read` for sources that read by origin."""

    read: Callable[[str], bytes]

    def __call__(self, sample: Sample) -> bytes:
        """Return the encoded bytes of a sample."""
        return self.read(sample.origin)


@dataclass(frozen=True)
class ReadKey:
    """`Source.read` for images that are held in memory."""

    encoded: dict[str, bytes]

    def __call__(self, sample: Sample) -> bytes:
        """Return the encoded bytes of a sample."""
        return self.encoded[sample.key]


def key_of(name: str) -> str:
    """Convert a file name to a key: no extension, and `_` for all but ASCII letters, digits, `_`, `-` and `/`."""
    return re.sub(r"[^\w/-]", "_", name.rpartition(".")[0], flags=re.ASCII)


def kinds(names: Iterable[str]) -> dict[str, int]:
    """Count file names by extension, the most frequent first."""
    bases = (name.rpartition("/")[2] for name in names)
    return dict(Counter(base.rpartition(".")[2].lower() if "." in base else "no extension" for base in bases).most_common())


def png(image: Image.Image) -> bytes:
    """Encode an image as PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def without_test(
    where: str, train: list[Sample], classes: list[str], fraction: float, seed: int
) -> tuple[list[Sample], list[Sample]]:
    """Split off a test split: return (train, test) with `fraction` of each training class held out."""
    try:
        kept, out = held_out(np.array([sample.label for sample in train]), classes, fraction, seed)
    except ValueError as why:
        raise ValueError(f"{where}: {why}") from None
    return [train[i] for i in kept], [train[i] for i in out]


def subset(where: str, samples: list[Sample], classes: list[str], count: int | None, seed: int) -> list[Sample]:
    """Return `count` samples, balanced by class, or all if `count` is None."""
    if count is None:
        return samples
    try:
        return [samples[i] for i in balanced(np.array([sample.label for sample in samples]), classes, count, seed)]
    except ValueError as why:
        raise ValueError(f"{where}: {why}") from None


def checked(where: str, source: Source) -> Source:
    """Return `source`, after checking its contract, with keys that are unique in their split and fit into a tar's header.

    ValueError if a split is empty, a label is out of range, a sample is listed twice, or a test image is one of training, too.
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
    trained_on = {sample.origin for sample in source.splits.get("train", ())}
    if both := [sample.origin for sample in source.splits.get("test", ()) if sample.origin in trained_on]:
        raise ValueError(f"{where}: no image may be of both splits, train and test, got {len(both)}, among them {both[0]}")
    return replace(source, splits={split: _unique(f"{where}: split {split!r}", s) for split, s in source.splits.items()})


def _unique(where: str, samples: list[Sample]) -> list[Sample]:
    """Add a hash of its origin to each key that several samples have, or that does not fit into a tar's header.

    Upper and lower case count as the same: one of two files would be lost when shards are unpacked on some file systems.
    """
    times = Counter(sample.key.casefold() for sample in samples)
    samples = [each if times[each.key.casefold()] == 1 and _fits(each) else _with_hash(each) for each in samples]
    origin_of: dict[str, str] = {}
    for sample in samples:
        other = origin_of.setdefault(sample.key.casefold(), sample.origin)
        if other is not sample.origin:
            raise ValueError(f"{where}: {other} and {sample.origin} must not be the same sample: list it once, or rename one")
    return samples


def _with_hash(sample: Sample) -> Sample:
    key = sample.key if _fits(sample._replace(key=f"{sample.key}_{'0' * 12}")) else sample.key[:LONGEST]
    return sample._replace(key=f"{key}_{hashlib.sha256(sample.origin.encode(errors='surrogateescape')).hexdigest()[:12]}")


def _fits(sample: Sample) -> bool:
    if len(sample.key) <= SHORT:
        return True
    try:
        tarfile.TarInfo(f"{sample.key}.{sample.extension}").tobuf(tarfile.USTAR_FORMAT)
    except ValueError:
        return False
    return True


def plain(name: str) -> str:
    """Normalise a path: accents composed (macOS decomposes them), no `./` and no `//`."""
    if name.isascii() and "./" not in name and "//" not in name:  # the usual case, which a million names should pass fast
        return name
    return re.sub(r"(?<![^/])(\./|/)+", "", unicodedata.normalize("NFC", name))


def is_hidden(name: str) -> bool:
    """Return True if a file is hidden (`.NAME`), or is in a hidden folder or one that operating systems leave behind."""
    return "/." in (path := f"/{plain(name)}") or any(f"/{left}/" in path for left in SYSTEMS)
