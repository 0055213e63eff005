"""Images for evaluation, read from shards: resized, centre-cropped, in the order of the index."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from nvidia.dali import fn
from torch import Tensor

from rsa.data import dali, decoding
from rsa.data.index import Split
from rsa.params.evaluation import Geometry

I64 = NDArray[np.int64]


def evaluation_images(split: Split, p: Geometry, *, batch_size: int, threads: int, gpu: int | None = None) -> Iterator[Tensor]:
    """Iterate over a split in batches, uint8 (B, crop, crop, 3): short side to `p.resize` px, then a central crop of `p.crop` px.

    Sizes and offsets are rounded like those of torchvision's Resize and CenterCrop.
    """
    batches = [np.arange(start, min(start + batch_size, len(split))) for start in range(0, len(split), batch_size)]

    def source(done: int) -> list[Any]:
        ids = batches[min(int(done), len(batches) - 1)]  # DALI prefetches past the end
        rows = split.rows[ids]
        size = resized(rows["height"].astype(np.int64), rows["width"].astype(np.int64), p.resize)
        start = np.round((size - p.crop) / 2)  # half to even, as Python's round
        return [[split.read(int(id)) for id in ids], size.astype(np.float32), start.astype(np.int32)]

    def images() -> Any:
        encoded, size, start = fn.external_source(source, num_outputs=3, batch=True)
        image = dali.resize(decoding.decode(encoded, gpu), size, p.interpolation)
        return fn.slice(image, start=start, shape=[p.crop, p.crop], axes=[0, 1])

    pipeline = decoding.build(images, batch_size=batch_size, threads=threads, gpu=gpu)
    with dali.Copies() as copies:
        for number in range(len(batches)):
            ahead = np.concatenate(batches[number : number + decoding.PREFETCH + 1])
            yield copies(dali.outputs(pipeline, split, lambda: ahead))[0]  # noqa: B023


def resized(heights: I64, widths: I64, short_side: int) -> I64:
    """Return height and width (B, 2) for a short side of `short_side` px, the long side rounded down."""
    sizes = np.stack([heights, widths], 1)
    scaled: I64 = sizes * short_side // sizes.min(axis=1, keepdims=True)
    return scaled
