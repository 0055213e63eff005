"""Images for evaluation, read from shards: resized, centre-cropped, in the order of the index."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from nvidia.dali import fn
from torch import Tensor

from rsa.data import border, dali, decoding
from rsa.data.index import Split
from rsa.params.evaluation import Geometry

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
I32 = NDArray[np.int32]


@dataclass(frozen=True)
class Placement:
    """How B images are resized and where they are cut."""

    shape: I32  # (B, 2) px: height, width of the stored image
    size: I32  # (B, 2) px: of the resized image
    start: I32  # (B, 2) px: top, left of the central crop
    p: Geometry

    @classmethod
    def of(cls, split: Split, ids: I64, p: Geometry) -> Self:
        """Round sizes and offsets like torchvision's Resize and CenterCrop."""
        rows = split.rows[ids]
        shape = np.stack([rows["height"], rows["width"]], 1).astype(np.int32)
        size = resized(shape[:, 0].astype(np.int64), shape[:, 1].astype(np.int64), p.resize).astype(np.int32)
        return cls(shape, size, np.round((size - p.crop) / 2).astype(np.int32), p)  # half to even, as Python's round

    @property
    def frames(self) -> I32:
        """Widths in px, (B, 2), of the frames: 0 along a side whose outermost pixels are cut off."""
        cut = np.minimum(self.start, self.size - self.p.crop - self.start)
        return np.where(cut < border.REACH[self.p.interpolation], border.frames(self.shape, self.size, self.p.interpolation), 0)

    def correct_edges(self, images: Tensor) -> Tensor:
        """Correct the outermost pixels of the crops, uint8 (B, crop, crop, 3)."""
        frames = self.frames
        return border.divide_edges(images, [self._shares(side, frames[:, side]) for side in range(2)]) if frames.any() else images

    def _shares(self, side: int, frames: I32) -> F64:
        """Return the share of the filter's weights inside the image for the first and last pixels of a crop, (B, 2 reach)."""
        inside = border.weights_inside(self.shape[:, side], self.size[:, side], self.p.interpolation)
        inside = np.where(frames[:, None] > 0, inside, 1)
        reach = inside.shape[1]
        padded = np.concatenate([inside, np.ones((len(inside), reach))], 1)
        first, last = (
            np.take_along_axis(padded, np.minimum(cut, reach)[:, None] + np.arange(reach), 1)
            for cut in (self.start[:, side], (self.size[:, side] - self.p.crop - self.start[:, side]))
        )
        return np.concatenate([first, last[:, ::-1]], 1)


def evaluation_images(split: Split, p: Geometry, *, batch_size: int, threads: int, gpu: int | None = None) -> Iterator[Tensor]:
    """Iterate over a split in batches, uint8 (B, crop, crop, 3): short side to `p.resize` px, then a central crop of `p.crop` px.

    Sizes, offsets and pixels are those of torchvision's Resize and CenterCrop.
    """
    batches = [np.arange(start, min(start + batch_size, len(split))) for start in range(0, len(split), batch_size)]

    def source(done: int) -> list[Any]:
        ids = batches[min(int(done), len(batches) - 1)]  # DALI prefetches past the end
        place = Placement.of(split, ids, p)
        encoded = [split.read(int(id)) for id in ids]
        return [encoded, place.size.astype(np.float32), place.start, place.shape, place.frames]

    def images() -> Any:
        encoded, size, start, shape, frame = fn.external_source(source, num_outputs=5, batch=True)
        image = decoding.decode(encoded, gpu)
        if frame[0] + frame[1] > 0:  # of each sample by itself
            image = dali.resize_framed(image, size, p.interpolation, shape, frame)
        else:
            image = dali.resize(image, size, p.interpolation)
        return fn.slice(image, start=start, shape=[p.crop, p.crop], axes=[0, 1])

    pipeline = decoding.build(images, batch_size=batch_size, threads=threads, gpu=gpu)
    with dali.Copies() as copies:
        for number, ids in enumerate(batches):
            ahead = np.concatenate(batches[number : number + decoding.PREFETCH + 1])
            cut = copies(dali.outputs(pipeline, split, lambda: ahead))[0]  # noqa: B023
            yield Placement.of(split, ids, p).correct_edges(cut)


def resized(heights: I64, widths: I64, short_side: int) -> I64:
    """Return height and width (B, 2) for a short side of `short_side` px, the long side rounded down."""
    sizes = np.stack([heights, widths], 1)
    scaled: I64 = sizes * short_side // sizes.min(axis=1, keepdims=True)
    return scaled
