"""Shards -> images as an encoder is evaluated on them: resized, centre-cropped, in the order of the index."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from nvidia.dali import fn, types
from torch import Tensor

from rsa.data import graph
from rsa.data.index import Split


def evaluation_images(
    split: Split, *, resize: int, crop: int, batch_size: int, threads: int, gpu: int | None = None
) -> Iterator[Tensor]:
    """All images of a split: short side to `resize` px, then the central `crop` px; uint8 (B, crop, crop, 3) at a time."""
    batches = [np.arange(start, min(start + batch_size, len(split))) for start in range(0, len(split), batch_size)]

    def source(done: int) -> list[Any]:
        return [split.read(int(id)) for id in batches[min(int(done), len(batches) - 1)]]  # DALI asks ahead, past the end

    def images() -> Any:
        decoded = graph.decode(fn.external_source(source, batch=True), gpu)
        resized = fn.resize(decoded, resize_shorter=resize, interp_type=types.INTERP_LINEAR, antialias=True)
        return fn.crop(resized, crop=(crop, crop))

    pipeline = graph.build(images, batch_size=batch_size, threads=threads, gpu=gpu)
    for number in range(len(batches)):
        ahead = np.concatenate(batches[number : number + graph.PREFETCH + 1])
        yield graph.outputs(pipeline, split, lambda: ahead)[0]  # noqa: B023
