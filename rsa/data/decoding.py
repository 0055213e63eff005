"""The decoder of every DALI graph, without torch, which sharding does not need.

No operator of a graph is random: every parameter is an input, drawn in numpy.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from nvidia.dali import fn, pipeline_def, types

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


class Decoder:
    """The decoder of the graphs on the CPU, for one image at a time: in larger batches a bad one may end the process."""

    def __init__(self) -> None:
        self._encoded = np.empty(0, np.uint8)
        self._pipeline = build(self._graph, batch_size=1, threads=1, gpu=None, prefetch=1)

    def __call__(self, encoded: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
        """Return the upright RGB pixels (H, W, 3) of an encoded image, None if it cannot be decoded."""
        self._encoded = encoded
        try:
            (images,) = self._pipeline.run()
        except RuntimeError:
            return None
        return np.array(images.at(0))

    def _graph(self) -> Any:
        return decode(fn.external_source(self._source, batch=True), None)

    def _source(self) -> list[NDArray[np.uint8]]:
        return [self._encoded]
