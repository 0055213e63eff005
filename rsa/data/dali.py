"""Common parts of the DALI graphs: building, decoding, and errors that name the sample.

No operator of a graph is random: every parameter is an input, drawn in numpy.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, Self

import numpy as np
import torch
import torch.utils.dlpack
from numpy.typing import NDArray
from nvidia.dali import fn, pipeline_def, types
from torch import Tensor

from rsa.data.index import Split

PREFETCH = 2  # batches that DALI prepares ahead


# AutoGraph rewrites the graph functions and whatever is defined inside them, so sources are defined outside.


def build(graph: Callable[[], Any], *, batch_size: int, threads: int, gpu: int | None, prefetch: int = PREFETCH) -> Any:
    """Build a DALI pipeline of `graph` on the CPU (`gpu` None) or on the GPU with that number."""
    # exec_dynamic: the other executor overwrites outputs that a DLPack tensor still holds.
    pipeline = pipeline_def(graph, enable_conditionals=True)(
        batch_size=batch_size, num_threads=threads, device_id=gpu, prefetch_queue_depth=prefetch, exec_dynamic=True
    )
    pipeline.build()
    return pipeline


def decode(encoded: Any, gpu: int | None) -> Any:
    """Decode images to upright RGB, uint8 (H, W, 3). This is the only operator that is set up differently on CPU and GPU."""
    if gpu is None:
        return fn.decoders.image(encoded, device="cpu", output_type=types.RGB)
    # A GPU's hardware decoder takes a share of each batch, so that an image's pixels would depend on the batch that it is in.
    # libjpeg-turbo's upsampling of the colours is the CPU decoder's.
    return fn.decoders.image(encoded, device="mixed", output_type=types.RGB, hw_decoder_load=0.0, jpeg_fancy_upsampling=True)


def outputs(pipeline: Any, split: Split, in_flight: Callable[[], NDArray[np.int64]]) -> list[Tensor]:
    """Return the next outputs of a pipeline as tensors. ValueError names an undecodable sample among the ids `in_flight`."""
    try:
        batch = pipeline.run()
    except RuntimeError as why:
        for id in in_flight():
            if not _decodes(split.read(int(id))):  # read() names a sample that is not where the index says
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


def _decodes(encoded: NDArray[np.uint8]) -> bool:
    """Return True if DALI's CPU decoder can read an image."""

    def source() -> list[NDArray[np.uint8]]:
        return [encoded]

    pipeline = build(lambda: decode(fn.external_source(source, batch=True), None), batch_size=1, threads=1, gpu=None, prefetch=1)
    try:
        pipeline.run()
    except RuntimeError:
        return False
    return True
