"""Application of colour operations to images, in torch, on the device of the images.

This is integer arithmetic in floating point: factors are rounded to a grid so coarse that every product and sum is exact.
Pixels therefore do not depend on the kernel, batch, number of threads or device.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsa.data.views import Colors

MATRIX_BITS = 14  # of a matrix's largest entry: 8 bits of a pixel, 3 products and the offset make 24, float32's mantissa
MEAN_BITS = 20  # of the mean matrix, in float64
BLUR_BITS, BETWEEN_BITS = 12, 4  # of a blur's weights; of a pixel's fraction between the two passes: 12 + 8 + 4 = 24
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
    _replace(x, colors.sigma > 0, _blur, colors.sigma)
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


def _blur(x: Tensor, sigma: NDArray[np.float64]) -> Tensor:
    """Blur with a Gaussian of `sigma` px along the columns, then along the rows, with reflection padding."""
    _, height, width, _ = x.shape
    reach = min(math.ceil(3 * sigma.max()), height - 1, width - 1)
    weights = torch.from_numpy(_gaussians(sigma, reach)).float().to(x.device)[..., None, None, None]  # (B, taps, 1, 1, 1)
    x = _weighted(_mirrored(x, 1, reach), 1, weights).mul_(2**BETWEEN_BITS).round_().div_(2**BETWEEN_BITS)
    return _weighted(_mirrored(x, 2, reach), 2, weights).round_()


def _weighted(x: Tensor, dim: int, weights: Tensor) -> Tensor:
    """Convolve `x` along `dim` with `weights`, tap by tap; in cache this is as fast as a convolution kernel."""
    taps = weights.shape[1]
    size = x.shape[dim] - taps + 1
    total = x.narrow(dim, 0, size) * weights[:, 0]
    for i in range(1, taps):
        total.addcmul_(x.narrow(dim, i, size), weights[:, i])
    return total


def _gaussians(sigma: NDArray[np.float64], reach: int) -> NDArray[np.float64]:
    """Return weights (B, 2 reach + 1) with BLUR_BITS that sum to exactly 1; beyond 3 sigma, where 0.3 % lie, they are 0."""
    place = np.arange(-reach, reach + 1)
    weights: NDArray[np.float64] = np.exp(-0.5 * (place / sigma[:, None]) ** 2) * (np.abs(place) <= np.ceil(3 * sigma[:, None]))
    weights = np.round(weights / weights.sum(1, keepdims=True) * 2**BLUR_BITS) / 2**BLUR_BITS
    weights[:, reach] += 1 - weights.sum(1)
    return weights


def _mirrored(x: Tensor, dim: int, reach: int) -> Tensor:
    """Pad both sides of `dim` with `reach` pixels by reflection at the outermost pixel."""
    size = x.shape[dim]
    before, after = x.narrow(dim, 1, reach).flip(dim), x.narrow(dim, size - 1 - reach, reach).flip(dim)
    return torch.cat([before, x, after], dim)


def _solarize(x: Tensor) -> Tensor:
    """Invert pixels of 128 and more."""
    return torch.where(x < 128, x, 255 - x)
