"""Application of colour operations to images, in torch, on the device of the images.

This is integer arithmetic in floating point: factors are rounded to a grid so coarse that every product and sum is exact.
Pixels therefore do not depend on the kernel, batch, number of threads or device.

A GPU gets few kernels and one copy of parameters: all images of a batch are processed at once, and each operation changes only
its own samples. A CPU processes as many images at a time as fit into its cache.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsa.data.blur import blur, blur_weights
from rsa.data.color import Affine
from rsa.data.hue import hue_offsets, turn_hue
from rsa.data.product import exact_product
from rsa.data.transfer import upload
from rsa.data.views import Colors

MATRIX_BITS = 14  # of a matrix's largest entry: 8 bits of a pixel, 3 products and the offset make 24, float32's mantissa
MEAN_BITS = 20  # of the mean matrix, in float64
PIXELS_IN_CACHE = 2**18  # of the images that are processed together on a CPU


class Operation(NamedTuple):
    """A function that changes some samples' images in place."""

    rows: NDArray[np.int64]  # (b,), the samples in ascending order
    apply: Callable[..., None]  # images (b, 3, H, W) of whole numbers in float32, and parameters
    parameters: tuple[NDArray[Any], ...]  # (b, ...) each


class Step(NamedTuple):
    """An operation on neighbouring samples, after a move of all samples."""

    move: NDArray[np.int64]  # (B,), where each sample lies before; empty: none moves
    order: NDArray[np.int64]  # (B,), the samples as they lie then
    samples: slice  # those that it changes
    apply: Callable[..., None]
    parameters: tuple[NDArray[Any], ...]  # in the order in which the samples lie


def apply_colors(images: Tensor, colors: Colors) -> Tensor:
    """Apply the `colors` of B samples to images, uint8 (B, H, W, 3)."""
    batch, height, width, _ = images.shape
    at_once = batch if images.is_cuda else max(1, PIXELS_IN_CACHE // (height * width))
    chunks = [slice(first, first + at_once) for first in range(0, batch, at_once)]
    colored = [_colored(images[chunk], colors[chunk]) for chunk in chunks]
    return colored[0] if len(colored) == 1 else torch.cat(colored)


def _colored(images: Tensor, colors: Colors) -> Tensor:
    """Apply one operation after the other to its samples, in channel planes of float32."""
    order = _neighbors(colors)
    steps = list(_steps(_operations(colors, *images.shape[1:3]), order))
    last = steps[-1].order if steps else order
    inputs = [order, np.argsort(last), *(array for step in steps for array in (step.move, *step.parameters))]
    arrays = _on_device(inputs, images.device)
    places, back = next(arrays), next(arrays)
    x = images.index_select(0, places).movedim(3, 1).to(torch.float32, memory_format=torch.contiguous_format)
    for step in steps:
        move, *parameters = (next(arrays) for _ in range(1 + len(step.parameters)))
        x = x.index_select(0, move) if len(move) else x
        step.apply(x[step.samples], *parameters)
    x = x.to(torch.int16).movedim(1, 3).contiguous()  # a CPU converts float32 to uint8 itself several times more slowly
    return x.to(torch.uint8).index_select(0, back)


def _neighbors(colors: Colors) -> NDArray[np.int64]:
    """Return an order of the samples in which those that an operation of the jitter changes are neighbours."""
    before = np.sum([_changed(step) for step in colors.before], axis=0) if colors.before else np.zeros(len(colors.turns))
    return np.lexsort((-before, colors.turns == 0))


def _steps(operations: Iterable[Operation], order: NDArray[np.int64]) -> Iterator[Step]:
    """Bring the samples of each operation together, where they are not neighbours in `order` already.

    Moving all samples takes no longer than taking some out and putting them back, for which a GPU has no deterministic kernel
    that is as fast.
    """
    for rows, apply, parameters in operations:
        changed = np.isin(order, rows)
        first, count = int(np.argmax(changed)), len(rows)
        move = np.empty(0, np.int64)
        if not changed[first : first + count].all():
            move, first = np.argsort(~changed, kind="stable"), 0
            order = order[move]
        samples = slice(first, first + count)
        places = np.searchsorted(rows, order[samples])
        yield Step(move, order, samples, apply, tuple(array[places] for array in parameters))


def _on_device(arrays: Sequence[NDArray[Any]], device: torch.device) -> Iterator[Tensor]:
    """Copy arrays to a device; to a GPU in a single transfer that does not block."""
    tensors = [torch.from_numpy(array) for array in arrays]
    if device.type != "cuda":
        yield from tensors
        return
    sizes = [array.nbytes + -array.nbytes % 8 for array in arrays]  # aligned for every type
    packed = b"".join(array.tobytes().ljust(size, b"\0") for array, size in zip(arrays, sizes, strict=True))
    uploaded = upload(torch.frombuffer(bytearray(packed), dtype=torch.uint8), device)
    for tensor, array, part in zip(tensors, arrays, torch.split(uploaded, sizes), strict=True):
        yield part[: array.nbytes].view(tensor.dtype).view(tensor.shape)


def _operations(colors: Colors, height: int, width: int) -> list[Operation]:
    """Return the operations on images of `height` and `width` px in their order; those that change no sample are left out."""
    turned, blurred = np.flatnonzero(colors.turns), np.flatnonzero(colors.sigma)
    weights = blur_weights(colors.sigma[blurred], colors.kernel, height, width) if len(blurred) else np.empty((0, 1))
    operations = [
        *(_affine_operation(step, height * width) for step in colors.before),
        Operation(turned, turn_hue, (hue_offsets(colors.turns[turned]),)),
        *(_affine_operation(step, height * width) for step in colors.after),
        Operation(blurred, partial(blur, kernel=colors.kernel), (weights,)),
        Operation(np.flatnonzero(colors.solarize), _solarize, ()),
    ]
    return [operation for operation in operations if len(operation.rows)]


def _changed(step: Affine) -> NDArray[np.bool_]:
    """Return which samples (B,) a step changes."""
    changed: NDArray[np.bool_] = (step.matrix != np.eye(3)).any((1, 2)) | step.mean_matrix.any((1, 2))
    return changed


def _affine_operation(step: Affine, pixels: int) -> Operation:
    """Return the operation M x + K mean(x) on images of `pixels`, with M and K rounded to their grids."""
    rows = np.flatnonzero(_changed(step))
    matrix, mean_matrix = step.matrix[rows], step.mean_matrix[rows]
    unit = 2.0 ** (np.ceil(np.log2(np.abs(matrix).max((1, 2), keepdims=True))) - MATRIX_BITS)  # of M x and of the offset
    m = (np.round(matrix / unit) * unit).astype(np.float32)
    k = np.round(mean_matrix * 2**MEAN_BITS) / 2**MEAN_BITS
    return Operation(rows, _affine, (m, k, pixels * unit, unit) if k.any() else (m,))


def _affine(x: Tensor, m: Tensor, k: Tensor | None = None, divisor: Tensor | None = None, unit: Tensor | None = None) -> None:
    """Compute M x + K mean(x), rounded and clamped to 8 bits; the offset K mean(x) is rounded to a multiple of `unit`."""
    offset = None
    if k is not None and divisor is not None and unit is not None:
        total = x.sum((2, 3), dtype=torch.float64) if x.is_cuda else x.sum(3).sum(2, dtype=torch.float64)  # a CPU's is faster so
        offset = (torch.round(k @ total[:, :, None] / divisor) * unit).float()  # (b, 3, 1); the division alone rounds
    y = exact_product(m, x.flatten(2), offset)
    torch.clamp(y.round_().view(x.shape), 0, 255, out=x)


def _solarize(x: Tensor) -> None:
    """Invert pixels of 128 and more."""
    x.copy_(torch.where(x < 128, x, 255 - x))
