"""Tiny-ImageNet as it is distributed, a folder or its zip; the labelled validation images are the test split.

tiny-imagenet-200/train/WNID/images/*.JPEG
tiny-imagenet-200/val/images/*.JPEG        with their WNIDs in val/val_annotations.txt: file, WNID, box
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from rsa.data.sources.files import open_files
from rsa.data.sources.source import ReadOrigin, Sample, Source, key_of
from rsa.params.section import FilePath, Section

ANNOTATIONS = "val/val_annotations.txt"


class TinyImageNet(Section):
    """Section of Tiny-ImageNet."""

    source: Literal["tiny_imagenet"]
    raw: FilePath


def tiny_imagenet(params: TinyImageNet) -> Source:
    """Build the source; classes are the sorted WNIDs. ValueError for a wrong layout or annotations that do not fit."""
    path = Path(params.raw)
    names, read = open_files(path)
    annotations = [name for name in names if name == ANNOTATIONS or name.endswith(f"/{ANNOTATIONS}")]
    if len(annotations) != 1:
        raise ValueError(
            f"{path} must hold Tiny-ImageNet: train/WNID/images/*.JPEG, val/images/*.JPEG and one {ANNOTATIONS} "
            f"(at the top or in one folder), got {len(annotations)} of the last"
        )
    top = annotations[0].removesuffix(ANNOTATIONS)
    images = [name for name in names if name.endswith(".JPEG")]
    train_images = [name for name in images if name.startswith(f"{top}train/") and _wnid(top, name)]
    classes = sorted({_wnid(top, name) for name in train_images})
    label_of = {wnid: label for label, wnid in enumerate(classes)}
    wnid_of = _annotations(f"{path}: {annotations[0]}", read(annotations[0]))
    test_images = [name for name in images if name.startswith(f"{top}val/images/")]
    _same(f"{path}: {annotations[0]}", wnid_of, (name.rpartition("/")[2] for name in test_images))
    for name, wnid in wnid_of.items():
        if wnid not in label_of:
            raise ValueError(f"{path}: {annotations[0]} gives {name} the class {wnid!r}, which has no training images")
    train = [_sample(top, name, label_of[_wnid(top, name)]) for name in train_images]
    test = [_sample(top, name, label_of[wnid_of[name.rpartition("/")[2]]]) for name in test_images]
    return Source(classes, {"train": train, "test": test}, ReadOrigin(read))


def _sample(top: str, name: str, label: int) -> Sample:
    return Sample(key_of(name.removeprefix(top)).replace("/images/", "/"), "jpg", label, name)


def _wnid(top: str, name: str) -> str:
    """Return the class folder of a training image, or an empty string for a misplaced file."""
    parts = name.removeprefix(top).split("/")
    return parts[1] if len(parts) == 4 and parts[2] == "images" else ""


def _annotations(where: str, text: bytes) -> dict[str, str]:
    wnid_of: dict[str, str] = {}
    for number, line in enumerate(text.decode().splitlines(), 1):
        fields = line.split("\t")
        if len(fields) < 2 or fields[0] in wnid_of:
            raise ValueError(f"{where}, line {number} must be a new file name, a tab and a WNID, got {line!r}")
        wnid_of[fields[0]] = fields[1]
    return wnid_of


def _same(where: str, annotated: Iterable[str], images: Iterable[str]) -> None:
    unpaired = sorted(set(annotated) ^ set(images))
    if unpaired:
        raise ValueError(f"{where} must name each image of val/images, got {len(unpaired)} without the other: {unpaired[0]}, ...")
