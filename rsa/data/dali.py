"""The outputs of a DALI graph as tensors, and errors that name the sample."""

from collections import deque
from collections.abc import Callable
from typing import Any, Self

import numpy as np
import torch
import torch.utils.dlpack
from numpy.typing import NDArray
from nvidia.dali import fn, types
from torch import Tensor

from rsa.data.decoding import PREFETCH, Decoder
from rsa.data.index import Split
from rsa.params.views import Interpolation

INTERPOLATIONS = {"linear": types.INTERP_LINEAR, "bicubic": types.INTERP_CUBIC}


def resize(images: Any, size: Any, interpolation: Interpolation, **region: Any) -> Any:
    """Resize images with antialiasing, as torchvision and Pillow do, except within a filter's reach of the border."""
    return fn.resize(images, size=size, interp_type=INTERPOLATIONS[interpolation], antialias=True, **region)


def resize_framed(images: Any, size: Any, interpolation: Interpolation, shape: Any, frame: Any) -> Any:
    """Resize images of height and width `shape` as if black pixels were around them, of which the filter sees a `frame`."""
    framed = fn.slice(images, start=-frame, shape=shape + 2 * frame, axes=[0, 1], out_of_bounds_policy="pad", fill_values=0)
    start, end = (fn.cast(place, dtype=types.FLOAT) for place in (frame, frame + shape))
    return resize(framed, size, interpolation, roi_start=start, roi_end=end)


def outputs(pipeline: Any, split: Split, in_flight: Callable[[], NDArray[np.int64]]) -> list[Tensor]:
    """Return the next outputs of a pipeline as tensors. ValueError names an undecodable sample among the ids `in_flight`."""
    try:
        batch = pipeline.run()
    except RuntimeError as why:
        decode = Decoder()
        for id in in_flight():
            if decode(split.read(int(id))) is None:  # read() names a sample that is not where the index says
                raise ValueError(
                    f"{split.describe(int(id))} cannot be decoded: mend the image at its source and run the `shard` stage again"
                ) from why
        raise
    return [torch.utils.dlpack.from_dlpack(output.as_tensor()) for output in batch]


class Copies:
    """Copies of a pipeline's outputs, on a GPU.

    DALI writes into a buffer again as soon as its last tensor is gone, even if kernels that read it are still queued on torch's
    stream. So torch gets copies, and a buffer is held until the GPU has passed the event behind its copy.
    """

    def __init__(self, event: Callable[[], Any] = torch.cuda.Event) -> None:
        self.event, self.held = event, deque[tuple[Any, list[Tensor]]]()

    def __call__(self, tensors: list[Tensor]) -> list[Tensor]:
        """Return tensors that torch owns: CPU tensors as they are, as DALI leaves their buffers alone."""
        if not tensors[0].is_cuda:
            return tensors
        copies = [tensor.clone() for tensor in tensors]
        copied = self.event()
        copied.record()
        self.held.append((copied, tensors))
        while self.held and (len(self.held) > PREFETCH or self.held[0][0].query()):
            self._release()
        return copies

    def _release(self) -> None:
        self.held[0][0].synchronize()  # before the buffer goes
        self.held.popleft()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self.held:
            self._release()
