"""Gaussian blurs as the authors of methods compute them, in torch, on the device of the images.

- pillow: Pillow's ImageFilter.GaussianBlur, three passes of a box blur with fractional ends (Gwosdek et al. 2011, "Theoretical
  foundations of Gaussian convolution by extended box filtering"), each rounded to 8 bits; pixels outside are those of the edge.
- a number: torchvision's GaussianBlur with a kernel of that many px and reflection at the edge.
- gaussian: the same with a kernel that reaches as far as 3 sigma, whatever the sigma, where 99.7 % lie.

Weights are rounded to a grid so coarse that every product and sum is exact: pixels do not depend on the batch or the device.
tests/data/test_blur.py measures the deviations from Pillow and torchvision on photographs.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsa.params.views import BlurKernel

F64 = NDArray[np.float64]

WEIGHT_BITS, BETWEEN_BITS = 12, 4  # of a Gaussian's weights; of a pixel's fraction between the two passes: 12 + 8 + 4 = 24
BOX_BITS = 16  # of a box's weights: with the 8 bits of a pixel, float32's mantissa
PASSES = 3  # of a box blur along each axis


def blur_weights(sigma: F64, kernel: BlurKernel, height: int, width: int) -> F64:
    """Return the weights (B, taps) of a convolution of images of `height` and `width` px with `sigma` (B,) px."""
    if kernel == "pillow":
        return box_weights(sigma)
    furthest = math.ceil(3 * sigma.max()) if kernel == "gaussian" else int(kernel) // 2
    reach = min(furthest, height - 1, width - 1)
    return gaussian_weights(sigma, reach, np.ceil(3 * sigma) if kernel == "gaussian" else None)


def blur(x: Tensor, weights: Tensor, kernel: BlurKernel) -> Tensor:
    """Blur images (B, H, W, 3) of float32 between 0 and 255 with the `blur_weights`, float32; returns whole numbers."""
    weights = weights[..., None, None, None]
    if kernel == "pillow":  # three passes along the rows, then three along the columns
        half = x.new_full((), 0.5)
        for dim in [2] * PASSES + [1] * PASSES:
            x = _convolve(x, dim, weights, _extended, half).floor_()
        return x
    zero = x.new_zeros(())
    x = _convolve(x, 1, weights, _mirrored, zero).mul_(2**BETWEEN_BITS).round_().div_(2**BETWEEN_BITS)
    return _convolve(x, 2, weights, _mirrored, zero).round_()


def gaussian_weights(sigma: F64, reach: int, limits: F64 | None) -> F64:
    """Return a Gaussian's weights (B, 2 reach + 1), which sum to 1; they are 0 further away than the `limits` (B,)."""
    place = np.arange(-reach, reach + 1)
    weights: F64 = np.exp(-0.5 * (place / sigma[:, None]) ** 2)
    if limits is not None:
        weights *= np.abs(place) <= limits[:, None]
    return _rounded(weights, WEIGHT_BITS)


def box_weights(sigma: F64) -> F64:
    """Return the weights (B, taps) of an extended box: 1 up to a whole radius, and a fraction one pixel further away."""
    variance = sigma**2 / PASSES
    radius = np.floor((np.sqrt(12 * variance + 1) - 1) / 2)
    fraction = (2 * radius + 1) * (radius * (radius + 1) - 3 * variance) / (6 * (variance - (radius + 1) ** 2))
    distance = np.abs(np.arange(-radius.max() - 1, radius.max() + 2))
    weights = (distance <= radius[:, None]) + (distance == radius[:, None] + 1) * fraction[:, None]
    return _rounded(weights, BOX_BITS)


def _rounded(weights: F64, bits: int) -> F64:
    """Round weights to a sum of exactly 1; the middle one takes the rest."""
    rounded: F64 = np.round(weights / weights.sum(1, keepdims=True) * 2**bits) / 2**bits
    rounded[:, rounded.shape[1] // 2] += 1 - rounded.sum(1)
    return rounded


def _convolve(x: Tensor, dim: int, weights: Tensor, pad: Callable[[Tensor, int, int], Tensor], offset: Tensor) -> Tensor:
    """Convolve `x` along `dim` with `weights` and add `offset`, tap by tap; in cache this is as fast as a convolution kernel."""
    taps, size = weights.shape[1], x.shape[dim]
    x = pad(x, dim, taps // 2)
    total = torch.addcmul(offset, x.narrow(dim, 0, size), weights[:, 0])
    for i in range(1, taps):
        total.addcmul_(x.narrow(dim, i, size), weights[:, i])
    return total


def _mirrored(x: Tensor, dim: int, reach: int) -> Tensor:
    """Pad both sides of `dim` with `reach` pixels by reflection at the outermost pixel."""
    size = x.shape[dim]
    before, after = x.narrow(dim, 1, reach).flip(dim), x.narrow(dim, size - 1 - reach, reach).flip(dim)
    return torch.cat([before, x, after], dim)


def _extended(x: Tensor, dim: int, reach: int) -> Tensor:
    """Pad both sides of `dim` with `reach` copies of the outermost pixel."""
    shape = [reach if i == dim else -1 for i in range(4)]
    return torch.cat([x.narrow(dim, 0, 1).expand(shape), x, x.narrow(dim, x.shape[dim] - 1, 1).expand(shape)], dim)
