"""Application of colour operations to images, in torch, on the device of the images.

This is integer arithmetic in floating point: factors are rounded to a grid so coarse that every product and sum is exact.
Pixels therefore do not depend on the kernel, batch, number of threads or device.

A GPU gets few kernels and one copy of parameters: all images of a batch are processed at once, and each operation changes only
its own samples. A CPU processes as many images at a time as fit into its cache.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from rsa.data.blur import blur, blur_weights
from rsa.data.color import Affine
from rsa.data.hue import hue_offsets, turn_hue
from rsa.data.product import exact_product
from rsa.data.transfer import upload
from rsa.data.views import Colors

F64 = NDArray[np.float64]

MATRIX_BITS = 14  # of a matrix's largest entry: 8 bits of a pixel, 3 products and the offset make 24, float32's mantissa
MEAN_BITS = 20  # of the mean matrix, in float64
PIXELS_IN_CACHE = 2**18  # of the images that are processed together on a CPU


class Operation(NamedTuple):
    """A function that changes some samples' images in place."""

    rows: NDArray[np.int64]  # (b,), the samples
    apply: Callable[..., None]  # images (b, 3, H, W) of whole numbers in float32, and parameters
    parameters: tuple[NDArray[Any], ...]


def apply_colors(images: Tensor, colors: Colors) -> Tensor:
    """Apply the `colors` of B samples to images, uint8 (B, H, W, 3)."""
    colored = torch.empty_like(images)
    batch, height, width, _ = images.shape
    at_once = batch if images.is_cuda else max(1, PIXELS_IN_CACHE // (height * width))
    for first in range(0, batch, at_once):
        chunk = slice(first, first + at_once)
        colored[chunk] = _colored(images[chunk], colors[chunk])
    return colored


def _colored(images: Tensor, colors: Colors) -> Tensor:
    order = _neighbors(colors)
    colors = colors[order]
    operations = _operations(colors, *images.shape[1:3])
    arrays = _on_device(
        [order, np.argsort(order), *(x for each in operations for x in (each.rows, *each.parameters))], images.device
    )
    places, back = next(arrays), next(arrays)
    x = images.index_select(0, places).movedim(3, 1).to(torch.float32, memory_format=torch.contiguous_format)
    for operation in operations:
        rows, *parameters = (next(arrays) for _ in range(1 + len(operation.parameters)))
        first, last = operation.rows[0], operation.rows[-1] + 1
        if len(rows) == last - first:
            operation.apply(x[first:last], *parameters)
        else:
            some = x.index_select(0, rows)
            operation.apply(some, *parameters)
            x.index_copy_(0, rows, some)
    x = (
        x.to(torch.int16).movedim(1, 3).contiguous().to(torch.uint8)
    )  # a CPU converts and copies several times faster in this order
    return x.index_select(0, back)


def _neighbors(colors: Colors) -> NDArray[np.int64]:
    """Return an order of the samples in which those that an operation of the jitter changes are neighbours, and need no copy."""
    before = np.sum([_changed(step) for step in colors.before], axis=0) if colors.before else np.zeros(len(colors.turns))
    return np.lexsort((-before, colors.turns == 0))


def _on_device(arrays: Sequence[NDArray[Any]], device: torch.device) -> Iterator[Tensor]:
    """Copy arrays to a device; to a GPU in a single transfer that does not block."""
    tensors = [torch.from_numpy(array).contiguous() for array in arrays]
    if device.type != "cuda":
        yield from tensors
        return
    parts = [tensor.flatten().view(torch.uint8) for tensor in tensors]
    packed = torch.cat([F.pad(part, (0, -len(part) % 8)) for part in parts])  # aligned for every type
    uploaded, start = upload(packed, device), 0
    for tensor, part in zip(tensors, parts, strict=True):
        yield uploaded[start : start + len(part)].view(tensor.dtype).view(tensor.shape)
        start += len(part) + -len(part) % 8


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
