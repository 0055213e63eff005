"""A folder of class folders, or a zip or tar of one, read without unpacking.

`train` (and `test`) name the folders that contain the class folders; "." is the top. An image's label is the index of its
class folder in the sorted list of training classes, or of the names in `classes`, which select some of them. `pretrain` may
name a folder of images without labels, at any depth, which pretraining reads in place of `train`.
"""

import re
import unicodedata
from pathlib import Path, PurePosixPath
from typing import Literal, Self

from pydantic import model_validator

from rsa.data.sources.files import open_files
from rsa.data.sources.source import (
    EXTENSIONS,
    PRETRAIN,
    ReadOrigin,
    Sample,
    Source,
    WithTest,
    is_hidden,
    key_of,
    kinds,
    plain,
    subset,
    without_test,
)
from rsa.params.section import Count, FilePath, nearest


class Folder(WithTest):
    """Section of a folder, zip or tar."""

    source: Literal["folder"]
    raw: FilePath
    train: str
    test: str | None
    train_samples: Count | None
    test_samples: Count | None
    classes: list[str] | str | None
    pretrain: str | None = None  # most data sets have none

    @model_validator(mode="after")
    def _watched(self) -> Self:
        if isinstance(self.classes, str) and not Path(self.classes).is_relative_to(self.raw):
            raise ValueError(
                f"classes must be a list of names, or a text file inside `raw` ({self.raw}), which is all that DVC watches; "
                f"got {self.classes!r}"
            )
        return self


def folder(params: Folder, seed: int) -> Source:
    """Build the source with sorted samples; ValueError names missing, empty, unsafe or too few entries."""
    path = Path(params.raw)
    names, read = open_files(path)
    classes, train = _samples(path, names, params.train, None, chosen_classes(params))
    if params.test is not None:
        _, test = _samples(path, names, params.test, classes, chosen_classes(params))
    else:
        assert params.test_fraction is not None  # checked by the params schema
        train, test = without_test(params.raw, train, classes, params.test_fraction, seed)
    unlabelled = _unlabelled(path, names, params.pretrain, test) if params.pretrain is not None else []
    used = {sample.origin for split in (train, test, unlabelled) for sample in split}
    left_out = kinds(name for name in names if name not in used and not name.endswith("/") and not is_hidden(name))
    splits = {
        "train": subset(f"{path}, training split", train, classes, params.train_samples, seed),
        "test": subset(f"{path}, test split", test, classes, params.test_samples, seed),
    }
    if unlabelled:
        splits[PRETRAIN] = unlabelled
    return Source(classes, splits, ReadOrigin(read), left_out)


def chosen_classes(params: Folder) -> list[str] | None:
    """Return the sorted names in `classes`, or None for all; ValueError for an empty list or a duplicate."""
    if params.classes is None:
        return None
    if isinstance(params.classes, str):
        try:
            lines = Path(params.classes).read_text().splitlines()
        except OSError as why:
            raise ValueError(f"classes must be a readable text file, got {params.classes!r}: {why.strerror}") from None
        names = [line.strip() for line in lines if line.strip()]
    else:
        names = params.classes
    names = [unicodedata.normalize("NFC", name) for name in names]
    chosen = sorted(set(names))
    if not chosen or len(chosen) < len(names):
        twice = sorted({name for name in chosen if names.count(name) > 1})
        raise ValueError(
            f"classes must name at least one class, each once, got {', '.join(twice) or 'none'}{' twice' * bool(twice)}"
        )
    return chosen


def _samples(
    path: Path, names: list[str], top: str, classes: list[str] | None, chosen: list[str] | None
) -> tuple[list[str], list[Sample]]:
    """Return (classes, samples) below `top`; `classes` are the training split's, None for the training split itself."""
    images, folders = _below(names, top)
    if not images:
        raise ValueError(
            f"{path} must hold images in class folders under {top!r} (like {top}/cat/1.jpg; {', '.join(sorted(EXTENSIONS))}), "
            f"got none among {len(names)} files and folders{_elsewhere(names, top)}"
        )
    with_images = {class_name for class_name, _, _ in images}
    if classes is None:
        for name in chosen or ():
            if name not in with_images | folders:
                raise ValueError(f"classes: {path} has no class folder {name!r} under {top!r}{nearest(name, with_images)}")
        classes = chosen or sorted(with_images | folders)
        for name in classes:
            if name not in with_images:
                raise ValueError(
                    f"{path}: class {name!r} must have images under {top!r}, got none: add some or remove its folder"
                )
    label_of = {name: label for label, name in enumerate(classes)}
    samples = []
    for class_name, below, name in images:
        if class_name in label_of:
            extension = EXTENSIONS[below.rpartition(".")[2].lower()]
            samples.append(Sample(key_of(below), extension, label_of[class_name], name))
        elif chosen is None:
            raise ValueError(f"{path}: {name} is of class {class_name!r}, which has no training images")
    return classes, samples


def _unlabelled(path: Path, names: list[str], top: str, test: list[Sample]) -> list[Sample]:
    """Return all images below `top`, without labels; ValueError if there are none, or if one is a test image."""
    start = _start(top)
    samples = []
    for name in names:
        below, extension = plain(name), name.rpartition(".")[2].lower()
        if below.startswith(start) and extension in EXTENSIONS and not is_hidden(name):
            samples.append(Sample(key_of(below.removeprefix(start)), EXTENSIONS[extension], -1, name))
    if not samples:
        raise ValueError(f"{path} must hold images under {top!r}, which `pretrain` names, got none among {len(names)} files")
    if seen := {sample.origin for sample in samples} & {sample.origin for sample in test}:
        raise ValueError(
            f"{path}: no image under `pretrain` ({top!r}) may be a test image, got {len(seen)}, among them {min(seen)}"
        )
    return samples


def _elsewhere(names: list[str], top: str) -> str:
    """Return a hint if the images are there, but in no class folder, one folder deeper, as in many archives, or elsewhere."""
    images = [plain(name) for name in names if name.rpartition(".")[2].lower() in EXTENSIONS and not is_hidden(name)]
    if any(image.startswith(_start(top)) for image in images):
        return (
            "; there are some without a class: put those of each class into a folder of its own, or, to pretrain on them, "
            "name their folder as `pretrain`, with labelled ones in another folder"
        )
    one_more = re.compile(f"([^/]+/)?{re.escape(_start(top))}", re.IGNORECASE)
    for image in images:
        if match := one_more.match(image):
            return f"; there are some under {match[0].rstrip('/')!r}: write it so"
    return nearest(top, {image.rsplit("/", 2)[0] for image in images if image.count("/") > 1})


def _start(top: str) -> str:
    """Return how the names of files below a folder of the source begin."""
    folder = PurePosixPath(plain(top)).as_posix()
    return "" if folder == "." else f"{folder}/"


def _below(names: list[str], top: str) -> tuple[list[tuple[str, str, str]], set[str]]:
    """Return the images below `top` as (class, name below top, full name), and the names of all class folders."""
    start = _start(top)
    classes: dict[str, str] = {}  # one string for each class, not one for each image
    images, folders = [], set[str]()
    for name in names:
        below = plain(name)
        if not below.startswith(start) or is_hidden(name):
            continue
        below = below[len(start) :]
        class_name, slash, inside = below.partition("/")
        if slash and not inside:
            folders.add(class_name)
        elif inside.rpartition(".")[2].lower() in EXTENSIONS:
            images.append((classes.setdefault(class_name, class_name), below, name))
    return images, folders
