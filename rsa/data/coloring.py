"""Application of colour operations to images, in torch, on the device of the images.

This is integer arithmetic in floating point: factors are rounded to a grid so coarse that every product and sum is exact.
Pixels therefore do not depend on the kernel, batch, number of threads or device.
"""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsa.data.blur import blur
from rsa.data.views import Colors

MATRIX_BITS = 14  # of a matrix's largest entry: 8 bits of a pixel, 3 products and the offset make 24, float32's mantissa
MEAN_BITS = 20  # of the mean matrix, in float64
PIXELS_IN_CACHE = 2**18  # of the images that are processed together
PIXELS_AT_ONCE = 8  # a product with a 24 x 24 matrix is faster than eight with 3 x 3


def apply_colors(images: Tensor, colors: Colors) -> Tensor:
    """Apply the `colors` of B samples to images, uint8 (B, H, W, 3)."""
    colored = torch.empty_like(images)
    batch, height, width, _ = images.shape
    at_once = max(1, PIXELS_IN_CACHE // (height * width))
    for first in range(0, batch, at_once):
        chunk = slice(first, first + at_once)
        colored[chunk] = _apply(images[chunk].float(), colors[chunk])
    return colored


def _apply(x: Tensor, colors: Colors) -> Tensor:
    for i, step in enumerate(colors.steps):
        if np.any(step.matrix != np.eye(3)) or np.any(step.mean_matrix):
            x = _affine(x, *step)
        if i < len(colors.turns):
            _replace(x, colors.turns[i] != 0, _turn_hue, colors.turns[i])
    _replace(x, colors.sigma > 0, partial(blur, kernel=colors.kernel), colors.sigma)
    _replace(x, colors.solarize, _solarize)
    return x


def _replace(x: Tensor, where: NDArray[np.bool_], operation: Callable[..., Tensor], *arguments: NDArray[np.float64]) -> None:
    """Compute x[where] <- operation(x[where], arguments[where]) in place, without work for other samples."""
    if where.any():
        rows = torch.from_numpy(np.flatnonzero(where)).to(x.device)
        x.index_copy_(0, rows, operation(x.index_select(0, rows), *(argument[where] for argument in arguments)))


def _affine(x: Tensor, matrix: NDArray[np.float64], mean_matrix: NDArray[np.float64]) -> Tensor:
    """Compute M x + K mean(x), rounded and clamped to 8 bits."""
    batch, height, width, _ = x.shape
    grid = 2.0 ** (np.ceil(np.log2(np.abs(matrix).max(axis=(1, 2)))) - MATRIX_BITS)  # (B,), of M x and of the offset
    m = torch.from_numpy(np.round(matrix / grid[:, None, None]) * grid[:, None, None]).float().to(x.device)
    k = torch.from_numpy(np.round(mean_matrix * 2**MEAN_BITS) / 2**MEAN_BITS).to(x.device)
    unit = torch.from_numpy(grid)[:, None].to(x.device)
    rows = x.reshape(batch, height, 3 * width).sum(1).double()  # entire rows of pixels: several times faster
    mean = (k * rows.reshape(batch, width, 3).sum(1)[:, None]).sum(2) / (height * width)  # (B, 3); rounded once
    offset = (torch.round(mean / unit) * unit).float()
    n = math.gcd(PIXELS_AT_ONCE, height * width)
    block = torch.einsum("ij,bkl->bilkj", torch.eye(n, device=x.device), m).transpose(3, 4).reshape(batch, 3 * n, 3 * n)
    y = torch.baddbmm(offset.repeat(1, n)[:, None], x.reshape(batch, -1, 3 * n), block)
    return y.round_().clamp_(0, 255).reshape(x.shape)


def _turn_hue(x: Tensor, turns: NDArray[np.float64]) -> Tensor:
    """Shift hue in HSV: a channel is v - c clamp(min(k, 4 - k), 0, 1) with value v, chroma c, k = (n + h) mod 6, n = 5, 3, 1."""
    r, g, b = x.double().unbind(3)  # float64, so that differences between kernels do not change a rounded result
    v = torch.maximum(r, torch.maximum(g, b))
    c = v - torch.minimum(r, torch.minimum(g, b))
    divisor = c.clamp(min=1)  # a chroma is 0 or at least 1
    h = torch.where(v == r, (g - b) / divisor, torch.where(v == g, (b - r) / divisor + 2, (r - g) / divisor + 4))
    h += 6 * torch.from_numpy(turns).to(x.device)[:, None, None]
    k = (torch.remainder(h + n, 6) for n in (5, 3, 1))
    return torch.stack([v - c * torch.minimum(k_, 4 - k_).clamp(0, 1) for k_ in k], 3).add_(0.5).floor_().float()


def _solarize(x: Tensor) -> Tensor:
    """Invert pixels of 128 and more."""
    return torch.where(x < 128, x, 255 - x)
