"""Application of colour operations to images, in torch, on the device of the images.

This is integer arithmetic in floating point: factors are rounded to a grid so coarse that every product and sum is exact.
Pixels therefore do not depend on the kernel, batch, number of threads or device.

A GPU gets few kernels and one copy of parameters: all images of a batch are processed at once, and each operation only those
samples that it changes. A CPU processes as many images at a time as fit into its cache.
"""

import math
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
from rsa.data.transfer import upload
from rsa.data.views import Colors

F64 = NDArray[np.float64]

MATRIX_BITS = 14  # of a matrix's largest entry: 8 bits of a pixel, 3 products and the offset make 24, float32's mantissa
MEAN_BITS = 20  # of the mean matrix, in float64
PIXELS_IN_CACHE = 2**18  # of the images that are processed together on a CPU
PIXELS_AT_ONCE = 8  # a product with a 24 x 24 matrix is faster than eight with 3 x 3


class Operation(NamedTuple):
    """A function of some samples' images and parameters."""

    rows: NDArray[np.int64]  # (b,), the samples
    apply: Callable[..., Tensor]  # images (b, H, W, 3) of whole numbers in float32, parameters -> images
    parameters: tuple[NDArray[Any], ...]  # (b, ...) each


def apply_colors(images: Tensor, colors: Colors) -> Tensor:
    """Apply the `colors` of B samples to images, uint8 (B, H, W, 3)."""
    colored = torch.empty_like(images)
    batch, height, width, _ = images.shape
    at_once = batch if images.is_cuda else max(1, PIXELS_IN_CACHE // (height * width))
    for first in range(0, batch, at_once):
        chunk = slice(first, first + at_once)
        colored[chunk] = _apply(images[chunk].float(), _operations(colors[chunk], height, width))
    return colored


def _apply(x: Tensor, operations: Sequence[Operation]) -> Tensor:
    """Compute x[rows] <- apply(x[rows], parameters) for one operation after the other."""
    arrays = _on_device([array for each in operations for array in (each.rows, *each.parameters)], x.device)
    for operation in operations:
        rows, *parameters = (next(arrays) for _ in range(1 + len(operation.parameters)))
        if len(rows) == len(x):
            x = operation.apply(x, *parameters)
        else:
            x.index_copy_(0, rows, operation.apply(x.index_select(0, rows), *parameters))
    return x


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
        Operation(turned, _turn_hue, (6 * colors.turns[turned],)),
        *(_affine_operation(step, height * width) for step in colors.after),
        Operation(blurred, partial(blur, kernel=colors.kernel), (weights.astype(np.float32),)),
        Operation(np.flatnonzero(colors.solarize), _solarize, ()),
    ]
    return [operation for operation in operations if len(operation.rows)]


def _affine_operation(step: Affine, pixels: int) -> Operation:
    """Return the operation M x + K mean(x) on images of `pixels`, with M and K rounded to their grids."""
    rows = np.flatnonzero((step.matrix != np.eye(3)).any((1, 2)) | step.mean_matrix.any((1, 2)))
    matrix, mean_matrix = step.matrix[rows], step.mean_matrix[rows]
    unit = 2.0 ** (np.ceil(np.log2(np.abs(matrix).max((1, 2), keepdims=True))) - MATRIX_BITS)  # of M x and of the offset
    m = np.round(matrix / unit) * unit
    n = math.gcd(PIXELS_AT_ONCE, pixels)
    k = np.tile(np.round(mean_matrix * 2**MEAN_BITS) / 2**MEAN_BITS, (1, n, 1))
    block = np.zeros((len(rows), n, 3, n, 3), np.float32)  # maps n pixels
    block[:, range(n), :, range(n)] = m.transpose(0, 2, 1)
    return Operation(rows, _affine, (block.reshape(-1, 3 * n, 3 * n), *((k, pixels * unit, unit) if k.any() else ())))


def _affine(
    x: Tensor, block: Tensor, k: Tensor | None = None, divisor: Tensor | None = None, unit: Tensor | None = None
) -> Tensor:
    """Compute M x + K mean(x), rounded and clamped to 8 bits; the offset K mean(x) is rounded to a multiple of `unit`."""
    batch, height, width, _ = x.shape
    pixels = x.reshape(batch, -1, block.shape[1])
    if x.is_cuda and torch.get_float32_matmul_precision() != "highest":  # TF32 would cut off the matrix's last bits
        pixels, block = pixels.double(), block.double()
    if k is None or divisor is None or unit is None:
        y = torch.bmm(pixels, block)
    else:
        if x.is_cuda:
            total = x.sum((1, 2), dtype=torch.float64)
        else:  # entire rows of pixels first: several times faster
            total = x.reshape(batch, height, 3 * width).sum(1).reshape(batch, width, 3).sum(1, dtype=torch.float64)
        offset = torch.round(k @ total[:, :, None] / divisor) * unit  # (b, 3 n, 1); the division alone rounds
        y = torch.baddbmm(offset.to(pixels.dtype).transpose(1, 2), pixels, block)
    return y.round_().clamp_(0, 255).reshape(x.shape).float()


def _turn_hue(x: Tensor, sixths: Tensor) -> Tensor:
    """Shift hue in HSV by `sixths` of a turn.

    A channel is v - c clamp(min(k, 4 - k), 0, 1) with value v, chroma c, k = (n + h) mod 6, and n = 5, 3, 1 for R, G, B.
    """
    x = x.double()  # so that differences between kernels do not change a rounded result
    r, g, b = x.unbind(3)
    v = x.amax(3)
    c = v - x.amin(3)
    divisor = c.clamp(min=1)  # a chroma is 0 or at least 1
    h = torch.where(v == r, (g - b) / divisor, torch.where(v == g, (b - r) / divisor + 2, (r - g) / divisor + 4))
    h += sixths[:, None, None]
    n = torch.arange(5, 0, -2, device=x.device).view(3, 1, 1, 1)
    k = (h + n).remainder_(6)
    channels = (v - torch.minimum(k, 4 - k).clamp_(0, 1).mul_(c)).add_(0.5).floor_()
    return channels.movedim(0, 3).to(torch.float32, memory_format=torch.contiguous_format)


def _solarize(x: Tensor) -> Tensor:
    """Invert pixels of 128 and more."""
    return torch.where(x < 128, x, 255 - x)
