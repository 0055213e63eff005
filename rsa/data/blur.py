"""Gaussian blurs as the authors of methods compute them, in torch, on the device of the images.

- pillow: Pillow's ImageFilter.GaussianBlur, three passes of a box blur with fractional ends (Gwosdek et al. 2011, "Theoretical
  foundations of Gaussian convolution by extended box filtering"), each rounded to 8 bits; pixels outside are those of the edge.
- a number: torchvision's GaussianBlur with a kernel of that many px and reflection at the edge.
- gaussian: the same with a kernel that reaches as far as 3 sigma, whatever the sigma, where 99.7 % lie.

Weights are rounded to a grid so coarse that every product and sum is exact: pixels do not depend on the batch or the device.
tests/data/test_blur.py measures the deviations from Pillow and torchvision on photographs.
"""

import math
from typing import Literal

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from rsa.data.product import exact_product
from rsa.params.views import BlurKernel

F64 = NDArray[np.float64]

WEIGHT_BITS, BETWEEN_BITS = 12, 4  # of a Gaussian's weights; of a pixel's fraction between the two passes: 12 + 8 + 4 = 24
BOX_BITS = 16  # of a box's weights: with the 8 bits of a pixel, float32's mantissa
PASSES = 3  # of a box blur along each axis
BLOCK = 32  # the most pixels of an image's side that one product computes


def blur_weights(sigma: F64, kernel: BlurKernel, height: int, width: int) -> NDArray[np.float32]:
    """Return the weights (B, taps) of a convolution of images of `height` and `width` px with `sigma` (B,) px."""
    if kernel == "pillow":
        return box_weights(sigma).astype(np.float32)
    furthest = math.ceil(3 * sigma.max()) if kernel == "gaussian" else int(kernel) // 2
    reach = min(furthest, height - 1, width - 1)
    return gaussian_weights(sigma, reach, np.ceil(3 * sigma) if kernel == "gaussian" else None).astype(np.float32)


def blur(x: Tensor, weights: Tensor, *, kernel: BlurKernel) -> None:
    """Blur images (B, 3, H, W) of float32 between 0 and 255 with the `blur_weights` in place, to whole numbers."""
    y = x
    if kernel == "pillow":
        for dim in [3] * PASSES + [2] * PASSES:
            y = _convolve(y, weights, dim, "replicate").add_(0.5).floor_()  # a half is rounded up, as in Pillow
    else:
        y = _convolve(y, weights, 2, "reflect").mul_(2**BETWEEN_BITS).round_().div_(2**BETWEEN_BITS)
        y = _convolve(y, weights, 3, "reflect").round_()
    x.copy_(y)


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


def _convolve(x: Tensor, weights: Tensor, dim: int, outside: Literal["replicate", "reflect"]) -> Tensor:
    """Convolve images (B, 3, H, W) along `dim` with `weights` (B, taps), block by block, each by a product with a banded matrix.

    A product reads and writes each pixel about once, where a sum over taps would do so for each tap.
    """
    batch, size, taps = len(x), x.shape[dim], weights.shape[1]
    blocks = -(-size // BLOCK)
    outputs = -(-size // blocks)
    inputs = outputs + taps - 1
    x = _pad(x, dim, taps // 2, taps // 2, outside)
    if rest := blocks * outputs - size:
        x = _pad(x, dim, 0, rest, "constant")  # outputs past the last pixel are cut off
    # Weights and `outputs` zeros, again and again, read in rows that are shorter by 1, are shifted by 1 from row to row.
    band = F.pad(weights, (0, outputs)).repeat(1, outputs)[:, : outputs * inputs].reshape(batch, outputs, inputs)
    windows = x.unfold(dim, inputs, outputs)  # the pixels from which a block is computed, in a last dimension
    if dim == 3:
        y = exact_product(windows.reshape(batch, -1, inputs), band.transpose(1, 2))
        return y.view(*x.shape[:3], blocks * outputs)[..., :size]
    columns = windows.movedim(4, 3).reshape(-1, inputs, x.shape[3])
    y = exact_product(band.repeat_interleave(len(columns) // batch, 0), columns)
    return y.view(batch, 3, blocks * outputs, -1)[:, :, :size]


def _pad(x: Tensor, dim: int, before: int, after: int, outside: str) -> Tensor:
    return F.pad(x, (before, after, 0, 0) if dim == 3 else (0, 0, before, after), mode=outside)
