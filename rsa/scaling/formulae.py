"""Formulae for bytes and seconds.

Units: bytes, seconds, images, floating-point operations (a multiply-add is two).
"""

import io
import math

import numpy as np

from rsa.data.index import index_dtype

FLOAT = 4  # bytes: weights, gradients and momenta are float32, whatever pretrain.precision says
BLOCK, RECORD = 512, 10240  # block and record size of a tar in bytes

# ---- shards ---------------------------------------------------------------------------------------


def sample_bytes(image_bytes: float) -> float:
    """Return the bytes of a sample in a tar: two headers, the label's block, and the image padded to whole blocks.

    Exact for a whole number of bytes; for a mean, the mean padding of half a block is added.
    """
    whole = float(image_bytes).is_integer()
    return 3 * BLOCK + (BLOCK * math.ceil(image_bytes / BLOCK) if whole else image_bytes + BLOCK / 2)


def shard_bytes(samples: float) -> float:
    """Return the bytes of a tar from the total bytes of its samples: two empty blocks end it, padded to a whole record."""
    return RECORD * math.ceil((samples + 2 * BLOCK) / RECORD)


def index_bytes(images: int, name_length: int) -> int:
    """Return the bytes of index.npy: NumPy's header and a row per sample."""
    rows, header = index_dtype(name_length), io.BytesIO()
    fields = {"descr": np.lib.format.dtype_to_descr(rows), "fortran_order": False, "shape": (images,)}
    np.lib.format.write_array_header_1_0(header, fields)
    return header.tell() + images * rows.itemsize


def missed(cache_bytes: float, dataset_bytes: float) -> float:
    """Return the share of samples that miss the cache: an epoch's order visits shards evenly, whatever was read last."""
    return max(0.0, 1 - cache_bytes / dataset_bytes)


def touched(samples: float, shards: int) -> float:
    """Return the expected share of shards in which that many samples lie, which an empty cache has to fetch."""
    return 1.0 - float((1 - 1 / shards) ** samples)


# ---- time -----------------------------------------------------------------------------------------


def images_per_second(step_flop: float, flop_per_second: float) -> float:
    """Return the throughput of a device that reaches `flop_per_second`, for training steps of `step_flop` per image."""
    return flop_per_second / step_flop


def step_seconds(images: float, rate: float, launches: float, exchanges: int, exchange: float) -> float:
    """Return the seconds of a step: computing `images` at `rate`, or launching kernels if that takes longer, then exchanges.

    Batch norms wait for each of their exchanges; that of gradients is hidden behind the backward pass.
    """
    return max(images / rate, launches) + exchanges * exchange


# ---- checkpoints and ranks ------------------------------------------------------------------------


def checkpoint_bytes(parameters: int, buffers: int, trained: int, states: int) -> int:
    """Return the bytes of a checkpoint's tensors: weights (including target networks), buffers, and optimiser state."""
    return FLOAT * (parameters + states * trained) + buffers


def checkpoint_interval(steps: int, minutes: float, step_seconds: float) -> float:
    """Return the seconds between checkpoints: the shorter of both intervals."""
    return min(steps * step_seconds, 60 * minutes)


def gradient_bytes(trained: int) -> int:
    """Return the bytes of gradients that are all-reduced per step, in one message."""
    return FLOAT * trained


def batch_norm_bytes(forward_channels: int, backward_channels: int) -> int:
    """Return the bytes that batch norms all-reduce per step: mean and variance per channel forward, two sums backward."""
    return 2 * FLOAT * (forward_channels + backward_channels)


def ring_bytes(payload: float, ranks: int) -> float:
    """Return the bytes that each rank sends (and receives) in a ring all-reduce of `payload` bytes, as in NCCL and gloo."""
    return 2 * (ranks - 1) / ranks * payload


def memory_bytes(parameters: int, trained: int, states: int, ranks: int, activations: float, images: float) -> float:
    """Return the bytes on a device: weights, gradients (twice in the all-reduce), optimiser state, activations of `images`.

    Excludes the libraries' own memory.
    """
    gradients = 2 if ranks > 1 else 1
    return FLOAT * (parameters + (states + gradients) * trained) + activations * images
