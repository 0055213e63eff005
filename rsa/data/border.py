"""The outermost pixels of images that shrink, as torchvision and Pillow compute them.

The filter of an outermost pixel reaches beyond the image. DALI repeats the edge there; torchvision leaves out what is outside,
and divides by the weights that remain. So an image that shrinks is resized with a black frame, which adds nothing, and its
outermost pixels are then divided by the weights that were inside. Along a side that grows the two differ by no more than
elsewhere.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsa.data.transfer import upload
from rsa.data.views import Crop
from rsa.params.views import Interpolation

F64 = NDArray[np.float64]
I32 = NDArray[np.int32]

REACH = {"linear": 1, "bicubic": 2}  # of the filters, in px of the smaller image


def frames(shape: I32, size: I32 | int, interpolation: Interpolation) -> I32:
    """Return the widths in px of the frames of B images, (B, 2), resized from (height, width) `shape` to `size`, both (B, 2).

    A side that grows has no frame.
    """
    widths = np.ceil(REACH[interpolation] * shape / size) + 1
    return np.where(shape > size, widths, 0).astype(np.int32)


def crop_frames(crop: Crop, shape: I32) -> I32:
    """Return the frames of B crops with height and width `shape`, (B, 2): none unless the crop is to be exact."""
    return frames(shape, crop.size, crop.interpolation) if crop.exact else np.zeros_like(shape)


def correct_edges(images: list[Tensor], crops: list[Crop], shapes: list[I32]) -> list[Tensor]:
    """Correct the outermost pixels of resized images, uint8 (B, size, size, 3) for each crop; equal crops are one batch.

    One batch takes fewer kernels on a GPU. `shapes` are the crops' heights and widths before resizing, (B, 2) px each.
    """
    images = list(images)
    for crop in dict.fromkeys(crops):
        same = [i for i, other in enumerate(crops) if other == crop]
        shape = np.concatenate([shapes[i] for i in same])
        if crop_frames(crop, shape).any():
            shares = [ring(weights_inside(side, crop.size, crop.interpolation)) for side in shape.T]
            corrected = divide_edges(torch.cat([images[i] for i in same]), shares)
            for i, part in zip(same, corrected.chunk(len(same)), strict=True):
                images[i] = part
    return images


def weights_inside(lengths: I32, sizes: I32 | int, interpolation: Interpolation) -> F64:
    """Return the share of a filter's weights that is inside for the first few pixels, (B, reach), of a side.

    The side of `lengths` (B,) px becomes `sizes` (B,) px long.
    """
    reach, scales = REACH[interpolation], np.maximum(lengths / sizes, 1)[:, None]
    taps = np.arange(-math.ceil(reach * scales.max()), math.ceil(2 * reach * scales.max()) + 1)
    shares = []
    for place in range(reach):
        weights = _filter(np.abs(taps / scales - (place + 0.5) + 0.5 / scales), interpolation)
        shares.append((weights * (taps >= 0)).sum(1) / weights.sum(1))
    return np.where(scales > 1, np.stack(shares, 1), 1)


def ring(inside: F64) -> F64:
    """Return the shares of the first and, mirrored, of the last pixels of a side: (B, reach) -> (B, 2 reach)."""
    return np.concatenate([inside, inside[:, ::-1]], 1)


def _filter(distance: F64, interpolation: Interpolation) -> F64:
    """Return the triangle, or Catmull and Rom's cubic, as Pillow's."""
    if interpolation == "linear":
        return np.clip(1 - distance, 0, None)
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((2.5 - 0.5 * distance) * distance - 4) * distance + 2
    return np.where(distance < 1, near, np.where(distance < 2, far, 0))


def divide_edges(images: Tensor, shares: list[F64]) -> Tensor:
    """Divide the outermost rows, then columns, of uint8 (B, H, W, 3) by the shares (B, 2 reach) of their weights, in place."""
    factors = upload(torch.from_numpy((1 / np.stack(shares)).astype(np.float32)), images.device)
    reach = factors.shape[2] // 2
    for dim, both in enumerate(factors[..., None, None], 1):  # (B, 2 reach, 1, 1)
        for place, factor in ((0, both[:, :reach]), (images.shape[dim] - reach, both[:, reach:])):
            edge = images.narrow(dim, place, reach)
            edge.copy_((edge * factor.transpose(1, dim)).round_().clamp_(0, 255))
    return images
