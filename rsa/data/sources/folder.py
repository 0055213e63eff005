"""A folder of class folders, or a zip or tar of one, read without unpacking.

`train` (and `test`) name the folders of class folders inside; "." is the top. An image's label is the place of its
class folder in the sorted list of training classes.
"""

import re
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np

from rsa.data.sources.source import Sample, Source
from rsa.data.splits import balanced, held_out
from rsa.params import Folder

EXTENSIONS = {"jpg": "jpg", "jpeg": "jpg", "png": "png", "bmp": "bmp", "webp": "webp", "tif": "tiff", "tiff": "tiff"}

Reader = Callable[[str], bytes]


def folder(params: Folder, seed: int) -> Source:
    """Samples in sorted order; ValueError where the folder is missing or empty, or a name is unsafe."""
    path = Path(params.raw)
    names, read = _open(path)
    classes, train = _samples(path, names, params.train, None)
    labels = np.array([sample.label for sample in train])
    if params.test is not None:
        _, test = _samples(path, names, params.test, classes)
    else:
        assert params.test_fraction is not None  # checked by the params schema
        kept, out = held_out(labels, classes, params.test_fraction, seed)
        train, test = [train[i] for i in kept], [train[i] for i in out]
    splits = {
        "train": _subset(train, classes, params.train_samples, seed),
        "test": _subset(test, classes, params.test_samples, seed),
    }
    return Source(classes, splits, lambda sample: read(sample.origin))


def _subset(samples: list[Sample], classes: list[str], count: int | None, seed: int) -> list[Sample]:
    if count is None:
        return samples
    return [samples[i] for i in balanced(np.array([sample.label for sample in samples]), classes, count, seed)]


def _samples(path: Path, names: list[str], top: str, classes: list[str] | None) -> tuple[list[str], list[Sample]]:
    prefix = PurePosixPath(top)
    found: list[tuple[str, str, str]] = []  # (class, name below the top, full name)
    for name in names:
        inside = PurePosixPath(name)
        if not inside.is_relative_to(prefix):
            continue
        below = inside.relative_to(prefix)
        if len(below.parts) >= 2 and below.suffix[1:].lower() in EXTENSIONS:
            found.append((below.parts[0], str(below), name))
    if not found:
        raise ValueError(
            f"{path} must hold images in class folders under {top!r} (like {top}/cat/1.jpg; {', '.join(sorted(EXTENSIONS))}), "
            f"got none among {len(names)} files"
        )
    if classes is None:
        classes = sorted({name for name, _, _ in found})
    samples, origin_of = [], dict[str, str]()
    for class_name, path_below, name in sorted(found):
        if class_name not in classes:
            raise ValueError(f"{path}: {name} is of class {class_name!r}, which has no training images")
        stem, _, suffix = path_below.rpartition(".")
        key = re.sub(r"[^\w/-]", "_", stem, flags=re.ASCII)
        if origin_of.setdefault(key, name) != name:
            raise ValueError(f"{path}: {name} and {origin_of[key]} both get the key {key!r}: rename one of them")
        samples.append(Sample(key, EXTENSIONS[suffix.lower()], classes.index(class_name), name))
    return classes, samples


def _open(path: Path) -> tuple[list[str], Reader]:
    """All file names below `path` (posix, sorted) and a function that reads one."""
    if path.is_dir():
        names = [file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()]
        return sorted(names), lambda name: (path / name).read_bytes()
    if not path.exists():
        raise ValueError(f"{path} does not exist: set `raw` of the dataset to a folder, zip or tar of class folders")
    if zipfile.is_zipfile(path):
        return _open_zip(path)
    if tarfile.is_tarfile(path):
        return _open_tar(path)
    raise ValueError(f"{path} must be a folder, a zip or a tar, got something else")


def _open_zip(path: Path) -> tuple[list[str], Reader]:
    archive = zipfile.ZipFile(path)
    names = [info.filename for info in archive.infolist() if not info.is_dir()]
    return _safe(path, names), archive.read


def _open_tar(path: Path) -> tuple[list[str], Reader]:
    archive = tarfile.open(path)  # noqa: SIM115 - stays open for reading
    members = {member.name: member for member in archive if member.isfile()}

    def read(name: str) -> bytes:
        file = archive.extractfile(members[name])
        assert file is not None
        return file.read()

    return _safe(path, list(members)), read


def _safe(path: Path, names: list[str]) -> list[str]:
    for name in names:
        if name.startswith("/") or ".." in PurePosixPath(name).parts:
            raise ValueError(f"{path}: member {name!r} must be a relative name without `..`; the archive is not used")
    return sorted(names)
