"""Tiny detection data sets in VOC's and COCO's format: discs and squares in their own colours on a noisy ground."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from rsa.params.detection import COCO, VOC

CLASSES = ["disc", "square"]
COLOURS = {"disc": (220, 60, 40), "square": (50, 90, 220)}
SIDE = 64  # px


class Shape(NamedTuple):
    name: str
    left: int
    top: int
    side: int


def draw(number: int) -> tuple[NDArray[np.uint8], list[Shape]]:
    """Image `number` (H, W, 3), with a shape in its left and perhaps one in its right half."""
    random = np.random.default_rng(number)
    image = Image.fromarray(random.integers(90, 160, (SIDE, SIDE, 3), dtype=np.uint8))
    pencil, shapes = ImageDraw.Draw(image), []
    for half in range(random.integers(1, 3)):
        side = int(random.integers(16, 28))
        shape = Shape(
            CLASSES[random.integers(2)], SIDE // 2 * half + int(random.integers(0, 32 - side)), int(random.integers(0, 36)), side
        )
        corners = [shape.left, shape.top, shape.left + side - 1, shape.top + side - 1]  # Pillow's last pixel is inside
        (pencil.ellipse if shape.name == "disc" else pencil.rectangle)(corners, fill=COLOURS[shape.name])
        shapes.append(shape)
    return np.asarray(image), shapes


def draw_voc(root: Path, train: int, test: int) -> VOC:
    """VOCdevkit/VOC2007 with `train` and `test` images, the last object of each image in test difficult where there are two."""
    folder = root / "VOCdevkit/VOC2007"
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    for split, numbers in (("trainval", range(train)), ("test", range(train, train + test))):
        (folder / f"ImageSets/Main/{split}.txt").write_text("".join(f"{number:06d}\n" for number in numbers))
        for number in numbers:
            pixels, shapes = draw(number)
            Image.fromarray(pixels).save(folder / f"JPEGImages/{number:06d}.jpg", quality=95)
            objects = "".join(_voc_object(shape, split == "test" and i > 0) for i, shape in enumerate(shapes))
            size = f"<size><width>{SIDE}</width><height>{SIDE}</height><depth>3</depth></size>"
            (folder / f"Annotations/{number:06d}.xml").write_text(f"<annotation>{size}{objects}</annotation>")
    values = {"format": "voc", "raw": str(root), "classes": CLASSES}
    splits = {"train": [{"year": "2007", "image_set": "trainval"}], "test": [{"year": "2007", "image_set": "test"}]}
    return VOC.model_validate({**values, **splits})


def _voc_object(shape: Shape, difficult: bool) -> str:
    first, last = (shape.left + 1, shape.top + 1), (shape.left + shape.side, shape.top + shape.side)  # pixels counted from 1
    box = f"<xmin>{first[0]}</xmin><ymin>{first[1]}</ymin><xmax>{last[0]}</xmax><ymax>{last[1]}</ymax>"
    return f"<object><name>{shape.name}</name><difficult>{difficult:d}</difficult><bndbox>{box}</bndbox></object>"


def draw_coco(root: Path, train: int, test: int) -> COCO:
    """`train2017`, `val2017` and their annotations; the categories are numbered with a gap, as COCO's."""
    (root / "annotations").mkdir(parents=True)
    for split, numbers in (("train2017", range(train)), ("val2017", range(train, train + test))):
        (root / split).mkdir()
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for number in numbers:
            pixels, shapes = draw(number)
            Image.fromarray(pixels).save(root / split / f"{number:012d}.jpg", quality=95)
            images.append({"id": 1000 - number, "file_name": f"{number:012d}.jpg", "width": SIDE, "height": SIDE})
            annotations += [_coco_annotation(shape, 1000 - number, 2 * number + i) for i, shape in enumerate(shapes)]
        categories = [{"id": 7, "name": "square"}, {"id": 3, "name": "disc"}]
        document = {"images": images, "annotations": annotations, "categories": categories}
        (root / f"annotations/instances_{split}.json").write_text(json.dumps(document))
    splits = {
        key: {"images": name, "annotations": f"annotations/instances_{name}.json"}
        for key, name in (("train", "train2017"), ("test", "val2017"))
    }
    return COCO.model_validate({"format": "coco", "raw": str(root), "classes": None, **splits})


def _coco_annotation(shape: Shape, image: int, id: int) -> dict[str, Any]:
    return {
        "id": id,
        "image_id": image,
        "category_id": {"disc": 3, "square": 7}[shape.name],
        "bbox": [shape.left, shape.top, shape.side, shape.side],
        "area": float(shape.side**2),
        "iscrowd": 0,
        "segmentation": [outline(shape)],
    }


def outline(shape: Shape) -> list[float]:
    """x, y, x, y, ... in px."""
    if shape.name == "square":
        left, top, right, bottom = shape.left, shape.top, shape.left + shape.side, shape.top + shape.side
        return [left, top, right, top, right, bottom, left, bottom]
    angles, radius = np.linspace(0, 2 * np.pi, 24, endpoint=False), shape.side / 2
    points = np.stack([shape.left + radius * (1 + np.cos(angles)), shape.top + radius * (1 + np.sin(angles))], 1)
    return [float(value) for value in points.flatten()]
