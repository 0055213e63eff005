"""Common parts of the DALI graphs: building, decoding, and errors that name the sample.

No operator of a graph is random: every parameter is an input, drawn in numpy.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
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
    """Decode images to upright RGB, uint8 (H, W, 3). This is the only operator that differs between CPU and GPU."""
    return fn.decoders.image(encoded, device="cpu" if gpu is None else "mixed", output_type=types.RGB)


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
