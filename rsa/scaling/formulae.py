"""The formulae of bytes and seconds, of what is counted or given.

Units: bytes, seconds, images, floating-point operations (a multiply-add is two).
"""

import io
import math

import numpy as np

from rsa.data.index import index_dtype

FLOAT = 4  # bytes: weights, gradients and momenta are float32, whatever pretrain.precision says
BLOCK, RECORD = 512, 10240  # bytes: of a tar, and what its end is filled up to

# ---- shards ---------------------------------------------------------------------------------------


def sample_bytes(image_bytes: float) -> float:
    """Of a sample in a tar: a header and its label's header and block, and the image filled up to whole blocks.

    Exact for a whole number of bytes; a mean gets the mean filling, half a block.
    """
    whole = float(image_bytes).is_integer()
    return 3 * BLOCK + (BLOCK * math.ceil(image_bytes / BLOCK) if whole else image_bytes + BLOCK / 2)


def shard_bytes(samples: float) -> float:
    """Of a tar, from the bytes of its samples together: two empty blocks end it, filled up to a whole record."""
    return RECORD * math.ceil((samples + 2 * BLOCK) / RECORD)


def index_bytes(images: int, name_length: int) -> int:
    """Of index.npy: numpy's header, and a row for each sample."""
    rows, header = index_dtype(name_length), io.BytesIO()
    described = {"descr": np.lib.format.dtype_to_descr(rows), "fortran_order": False, "shape": (images,)}
    np.lib.format.write_array_header_1_0(header, described)
    return header.tell() + images * rows.itemsize


def missed(cache_bytes: float, dataset_bytes: float) -> float:
    """Share of samples whose shard isn't in the cache: an epoch's order visits shards evenly, whatever was used last."""
    return max(0.0, 1 - cache_bytes / dataset_bytes)


def touched(samples: float, shards: int) -> float:
    """Share of the shards that so many samples of an epoch's order lie in: all that an empty cache fetches for them."""
    return 1.0 - float((1 - 1 / shards) ** samples)


# ---- time -----------------------------------------------------------------------------------------


def images_per_second(step_flop: float, flop_per_second: float) -> float:
    """Of a device that reaches `flop_per_second` in training, for steps of `step_flop` per image."""
    return flop_per_second / step_flop


# ---- checkpoints and ranks ------------------------------------------------------------------------


def checkpoint_bytes(parameters: int, buffers: int, trained: int, states: int) -> int:
    """Of the tensors in a checkpoint: weights (target networks too), buffers' bytes, and what the optimiser keeps."""
    return FLOAT * (parameters + states * trained) + buffers


def checkpoint_interval(steps: int, minutes: float, step_seconds: float) -> float:
    """Seconds between two: whichever comes first."""
    return min(steps * step_seconds, 60 * minutes)


def gradient_bytes(trained: int) -> int:
    """That are all-reduced in a step, in one message."""
    return FLOAT * trained


def batch_norm_bytes(forward_channels: int, backward_channels: int) -> int:
    """That ranks exchange in a step: mean and variance of every channel forward, two sums backward."""
    return 2 * FLOAT * (forward_channels + backward_channels)


def ring_bytes(payload: float, ranks: int) -> float:
    """That each rank sends (and receives) to all-reduce `payload` bytes in a ring, as NCCL and gloo do."""
    return 2 * (ranks - 1) / ranks * payload


def memory_bytes(parameters: int, trained: int, states: int, ranks: int, activations: float, images: float) -> float:
    """Of a device: weights, gradients (twice while they are all-reduced), momenta, and what `images` at once keep for the
    backward pass. Without what libraries need for themselves."""
    gradients = 2 if ranks > 1 else 1
    return FLOAT * (parameters + (states + gradients) * trained) + activations * images
