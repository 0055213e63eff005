"""Images with their annotated objects, in the format of torchvision's detectors."""

import contextlib
import hashlib
import io
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.datasets import CocoDetection

from rsa.data.order import Order
from rsa.data.philox import uniforms

Target = dict[str, Tensor]
Place = tuple[int, int]  # number of an image, epoch


class ObjectImages(torch.utils.data.Dataset[tuple[Tensor, Target]]):
    """One split of the annotations that rsa.data.detection_data has written; its images are below `raw`.

    For training it has the images with objects, flipped with probability `flip_prob` by a draw that depends only on seed,
    epoch and image. Otherwise it has all images unchanged, with the fields that the evaluation of objects needs.
    """

    def __init__(self, annotations: Path, raw: Path, *, masks: bool, training: bool, flip_prob: float = 0, seed: int = 0) -> None:
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints while it reads
            self.coco = CocoDetection(str(raw), str(annotations)).coco
        self.raw, self.masks, self.training, self.flip_prob, self.seed = raw, masks, training, flip_prob, seed
        self.classes: list[str] = [each["name"] for each in self.coco.dataset["categories"]]
        self.ids = [id for id in sorted(self.coco.imgs) if not training or self._trained_on(id)]
        if masks and (bare := [each["id"] for each in self.coco.dataset["annotations"] if not each.get("segmentation")]):
            raise ValueError(f"{annotations}: every object must have a segmentation for mask_rcnn, got {len(bare)} without")

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, place: Place) -> tuple[Tensor, Target]:
        """Return float (3, H, W) in [0, 1]; boxes (N, 4) left, top, right, bottom in px; labels (N,) from 1; masks (N, H, W)."""
        number, epoch = place
        id = self.ids[number]
        image = self._image(self.coco.imgs[id])
        rows = self._trained_on(id) if self.training else self._all(id)
        corners = [[left, top, left + width, top + height] for left, top, width, height in (row["bbox"] for row in rows)]
        target = {
            "boxes": torch.tensor(corners, dtype=torch.float32).reshape(-1, 4),
            "labels": torch.tensor([row["category_id"] for row in rows], dtype=torch.int64),
        }
        if self.masks:
            target["masks"] = torch.from_numpy(self._masks(rows, image.shape[:2]))
        if not self.training:
            target["iscrowd"] = torch.tensor([row["iscrowd"] or row["difficult"] for row in rows], dtype=torch.int64)
            target["area"] = torch.tensor([row["area"] for row in rows], dtype=torch.float32)
        x = torch.from_numpy(image).permute(2, 0, 1).float().div(255)
        return mirrored(x, target) if self._flips(number, epoch) else (x, target)

    def _flips(self, number: int, epoch: int) -> bool:
        drawn = uniforms(self.seed, np.array([number]), np.array([epoch]), 0, 1)
        return self.training and bool(drawn[0, 0] < self.flip_prob)

    def _image(self, row: dict[str, Any]) -> NDArray[np.uint8]:
        path = self.raw / row["file_name"]
        content = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(content).hexdigest() != row["sha256"]:
            raise ValueError(f"{path} is not the image that was annotated: run the `detection_data` stage again")
        with Image.open(io.BytesIO(content)) as image:
            return np.array(image.convert("RGB"))

    def _masks(self, rows: list[dict[str, Any]], shape: tuple[int, ...]) -> NDArray[np.uint8]:
        masks = np.zeros((len(rows), *shape), np.uint8)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)  # pycocotools under NumPy 2
            for mask, row in zip(masks, rows, strict=True):
                mask[:] = self.coco.annToMask(row)
        return masks

    def _all(self, id: int) -> list[dict[str, Any]]:
        return list(self.coco.imgToAnns.get(id, []))

    def _trained_on(self, id: int) -> list[dict[str, Any]]:
        return [row for row in self._all(id) if not row["iscrowd"]]


def mirrored(x: Tensor, target: Target) -> tuple[Tensor, Target]:
    """Flip image and target horizontally."""
    left, top, right, bottom = target["boxes"].unbind(1)
    boxes = torch.stack([x.shape[-1] - right, top, x.shape[-1] - left, bottom], 1)
    masks = {"masks": target["masks"].flip(-1)} if "masks" in target else {}
    return x.flip(-1), {**target, "boxes": boxes, **masks}


def training_batches(images: ObjectImages, batch_size: int, start: int, end: int) -> Iterator[list[Place]]:
    """Iterate over batches `start` to `end` of (image, epoch), reshuffled every epoch, without an incomplete last batch."""
    if len(images) < batch_size:
        raise ValueError(
            f"schedule.batch_size must be at most the number of images with objects ({len(images)}), got {batch_size}"
        )
    order = Order(len(images), batch_size, images.seed)
    for iteration in range(start, end):
        numbers, epoch = order.batch(iteration)
        yield [(int(number), epoch) for number in numbers]


def batches(images: ObjectImages, places: Iterable[list[Place]], workers: int) -> Any:
    """Return a loader of lists of images and targets with `workers` processes (0: this process)."""
    own = torch.Generator()  # otherwise an iterator draws from the generator of training, and a continued run differs
    return torch.utils.data.DataLoader(images, batch_sampler=places, num_workers=workers, collate_fn=_as_lists, generator=own)


def _as_lists(samples: list[tuple[Tensor, Target]]) -> tuple[list[Tensor], list[Target]]:
    return [image for image, _ in samples], [target for _, target in samples]
