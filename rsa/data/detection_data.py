"""Conversion of a detection data set in VOC's or COCO's format to checked annotations in COCO's format.

<folder>/train.json, <folder>/test.json: `images`, `annotations` and `categories` as COCO has them (https://cocodataset.org,
"Data format"), file names relative to `raw`, categories numbered from 1. In addition an image has its `sha256`, so that a
reader notices a different file under the same name, and an annotation has `difficult`, VOC's mark for uncounted objects.
Images are not copied.

Boxes are (left, top, width, height) in px, given by edges and not by pixel numbers: VOC counts pixels from 1 and includes the
last one, so (1, 1, W, H) becomes (0, 0, W, H) here. Boxes without area (COCO has some) are left out and counted.
"""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from xml.etree import ElementTree

from PIL import Image

from rsa.data.files import sha256
from rsa.params.detection import COCO, VOC, COCOImages, VOCImages
from rsa.params.section import nearest

SHOWN = 10  # faults that a message lists
RAW = "raw.txt"  # names the folder of the images: no stage watches this file, so images may move
SLACK = 1.0  # px that a box may exceed the image by rounding; it is clipped
Box = tuple[float, float, float, float]
Parsed = TypeVar("Parsed")


@dataclass(frozen=True)
class Object:
    """One object and the location of its annotation."""

    where: str
    name: str  # of its class
    box: Box  # left, top, right, bottom; px
    crowd: bool = False  # COCO: a group, neither trained on nor counted
    difficult: bool = False  # VOC: trained on, not counted
    extra: dict[str, Any] = field(default_factory=dict)  # COCO's area and segmentation


@dataclass(frozen=True)
class Annotated:
    """One image and the location of its annotation."""

    where: str
    file: Path
    size: tuple[int, int]  # width, height in px as the annotation has it
    objects: list[Object]


def write_objects(p: VOC | COCO, folder: Path) -> None:
    """Read, check and write both splits; ValueError lists the faults of the data with their files."""
    raw = Path(p.raw)
    if isinstance(p, COCO):
        train, names = _read_coco(raw, p.train)
        test, names_of_test = _read_coco(raw, p.test)
        if names != names_of_test:
            raise ValueError(f"{raw / p.test.annotations} must have the categories of {p.train.annotations}, got other ones")
    else:
        train, test = ([image for part in parts for image in _read_voc(raw, part)] for parts in (p.train, p.test))
        names = p.classes
    for split, images in (("train", train), ("test", test)):
        document = _document(images, p.classes or names, raw)
        if all(each["iscrowd"] or each["difficult"] for each in document["annotations"]):
            raise ValueError(f"{raw}: the {split} split must have objects to be counted, got none in {len(images)} images")
        (folder / f"{split}.json").write_text(json.dumps(document, allow_nan=False))
    (folder / RAW).write_text(f"{raw}\n")


# ---- VOC -----------------------------------------------------------------------------------------


def _read_voc(raw: Path, part: VOCImages) -> Iterator[Annotated]:
    from torchvision.datasets import VOCDetection  # seconds to import

    try:
        dataset = VOCDetection(str(raw), year=part.year, image_set=part.image_set)
    except (RuntimeError, FileNotFoundError) as why:
        raise ValueError(
            f"{raw} must hold VOC's VOCdevkit/VOC{part.year}/ (2011: TrainVal/VOCdevkit/VOC2011/) with "
            f"ImageSets/Main/{part.image_set}.txt, JPEGImages/ and Annotations/: {why}"
        ) from None
    for image, annotation in zip(dataset.images, dataset.annotations, strict=True):
        yield _parse(annotation, lambda: _voc_image(VOCDetection, image, annotation))  # noqa: B023 - called here and now


def _voc_image(voc: Any, image: str, annotation: str) -> Annotated:
    tree = voc.parse_voc_xml(ElementTree.parse(annotation).getroot())["annotation"]
    size = int(tree["size"]["width"]), int(tree["size"]["height"])
    objects = []
    for number, each in enumerate(tree["object"], 1):
        box = each["bndbox"]
        left, top, right, bottom = (float(box[side]) for side in ("xmin", "ymin", "xmax", "ymax"))
        difficult = each.get("difficult", "0") == "1"
        where = f"{annotation}: object {number} ({each['name']})"
        objects.append(Object(where, each["name"], (left - 1, top - 1, right, bottom), difficult=difficult))
    return Annotated(annotation, Path(image), size, objects)


# ---- COCO ----------------------------------------------------------------------------------------


def _read_coco(raw: Path, part: COCOImages) -> tuple[list[Annotated], list[str]]:
    """Read the images of a split, and the names of all categories in the order of their numbers."""
    path = raw / part.annotations

    def read() -> tuple[list[Annotated], list[str]]:
        document = json.loads(path.read_bytes())
        names = {each["id"]: each["name"] for each in sorted(document["categories"], key=lambda each: each["id"])}
        return _coco_images(document, names, path, raw / part.images), list(names.values())

    return _parse(str(path), read)


def _coco_images(document: Any, names: dict[int, str], path: Path, images: Path) -> list[Annotated]:
    annotated = {
        each["id"]: Annotated(f"{path}: image {each['id']}", images / each["file_name"], (each["width"], each["height"]), [])
        for each in sorted(document["images"], key=lambda each: each["id"])
    }
    for each in sorted(document["annotations"], key=lambda each: each["id"]):
        where = f"{path}: annotation {each['id']}"
        if each["image_id"] not in annotated:
            raise ValueError(f"{where} must be of an image of the file, got image {each['image_id']}")
        left, top, width, height = (float(value) for value in each["bbox"])
        extra = {key: each[key] for key in ("area", "segmentation") if key in each}
        name = names.get(each["category_id"], f"category {each['category_id']}")
        box, crowd = (left, top, left + width, top + height), bool(each.get("iscrowd", 0))
        annotated[each["image_id"]].objects.append(Object(f"{where} ({name})", name, box, crowd, extra=extra))
    return list(annotated.values())


def _parse(file: str, read: Callable[[], Parsed]) -> Parsed:
    """Return the result of `read`; ValueError names the annotation file if it is missing or malformed."""
    try:
        return read()
    except FileNotFoundError:
        raise ValueError(f"{file} does not exist: it must have the annotations") from None
    except KeyError as why:
        raise ValueError(f"{file} must have {why}, got none") from None
    except (ElementTree.ParseError, ValueError, TypeError, AttributeError, RecursionError) as why:
        if str(why).startswith(file):
            raise
        raise ValueError(f"{file} must be an annotation in the format that `data.format` names: {why}") from None


# ---- checks --------------------------------------------------------------------------------------


def _document(images: list[Annotated], classes: list[str], raw: Path) -> dict[str, Any]:
    """Build COCO's document of a split."""
    with ThreadPoolExecutor() as pool:
        looked_at = list(pool.map(_look, images))
    faults = [fault for _, faults in looked_at for fault in faults]
    faults += [fault for image in images for each in image.objects for fault in _object_faults(each, image.size, classes)]
    if faults:
        shown = "\n".join(faults[:SHOWN])
        raise ValueError(f"{raw} must hold sound annotations, got {len(faults)} faults, among them\n{shown}")
    numbers = {name: number for number, name in enumerate(classes, 1)}
    rows: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    empty = 0
    for id, (image, (digest, _)) in enumerate(zip(images, looked_at, strict=True), 1):
        width, height = image.size
        rows.append({"id": id, "file_name": str(image.file.relative_to(raw)), "width": width, "height": height, "sha256": digest})
        for each in image.objects:
            left, top = max(each.box[0], 0.0), max(each.box[1], 0.0)
            box = [left, top, min(each.box[2], width) - left, min(each.box[3], height) - top]
            if min(box[2:]) <= 0:
                empty += 1
                continue
            row = {"id": len(annotations) + 1, "image_id": id, "category_id": numbers[each.name], "bbox": box}
            marks = {"iscrowd": int(each.crowd), "difficult": int(each.difficult)}
            annotations.append({**row, "area": box[2] * box[3], **each.extra, **marks})
    categories = [{"id": number, "name": name} for name, number in numbers.items()]
    return {"images": rows, "annotations": annotations, "categories": categories, "empty_boxes": empty}


def _look(image: Annotated) -> tuple[str, list[str]]:
    """Return the sha256 of an image file and a list of its faults."""
    try:
        digest = sha256(image.file)
        with Image.open(image.file) as opened:
            opened.load()
            size = opened.size
    except FileNotFoundError:
        return "", [f"{image.file} does not exist (annotated in {image.where})"]
    except (OSError, ValueError, SyntaxError) as why:
        return "", [f"{image.file} cannot be decoded: {why}"]
    if size != image.size:
        claimed = "x".join(map(str, image.size))
        return digest, [f"{image.where}: {image.file} must be {claimed} px, got {size[0]}x{size[1]}"]
    return digest, []


def _object_faults(each: Object, size: tuple[int, int], classes: list[str]) -> Iterator[str]:
    left, top, right, bottom = each.box
    if each.name not in classes:
        yield f"{each.where}: class must be in data.classes, got {each.name!r}{nearest(each.name, classes)}"
    inside = -SLACK <= left <= right <= size[0] + SLACK and -SLACK <= top <= bottom <= size[1] + SLACK
    if not inside:
        yield f"{each.where}: box must lie inside the image of {size[0]}x{size[1]} px, got {left:g} {top:g} {right:g} {bottom:g}"
