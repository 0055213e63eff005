"""The outermost pixels of crops that shrink, as torchvision and Pillow compute them.

The filter of an outermost pixel reaches beyond the crop. DALI repeats the edge there; torchvision leaves out what is outside, and
divides by the weights that remain. So a crop that shrinks is resized with a black frame, which adds nothing, and its outermost
pixels are then divided by the weights that were inside. Along a side that grows the two differ by no more than elsewhere.
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


def frames(crop: Crop, shape: I32) -> I32:
    """Return the widths in px of the frames of B crops with height and width `shape`, (B, 2); 0 along a side that grows."""
    widths = np.ceil(REACH[crop.interpolation] * shape / crop.size) + 1
    return np.where(crop.exact & (shape > crop.size), widths, 0).astype(np.int32)


def mended(images: list[Tensor], crops: list[Crop], shapes: list[I32]) -> list[Tensor]:
    """Mend resized images, uint8 (B, size, size, 3) of each crop; those of equal crops as one batch: fewer kernels on a GPU."""
    images = list(images)
    for crop in dict.fromkeys(crops):
        same = [i for i, other in enumerate(crops) if other == crop]
        shape = np.concatenate([shapes[i] for i in same])
        if frames(crop, shape).any():
            whole = _divided(torch.cat([images[i] for i in same]), [weights_inside(crop, side) for side in shape.T])
            for i, part in zip(same, whole.chunk(len(same)), strict=True):
                images[i] = part
    return images


def weights_inside(crop: Crop, lengths: I32) -> F64:
    """Return the share of a filter's weights that is inside a side of `lengths` (B,) px, for the first few pixels, (B, reach)."""
    reach, scales = REACH[crop.interpolation], np.maximum(lengths / crop.size, 1)[:, None]
    taps = np.arange(-math.ceil(reach * scales.max()), math.ceil(2 * reach * scales.max()) + 1)
    shares = []
    for place in range(reach):
        weights = _filter(np.abs(taps / scales - (place + 0.5) + 0.5 / scales), crop.interpolation)
        shares.append((weights * (taps >= 0)).sum(1) / weights.sum(1))
    return np.where(lengths[:, None] > crop.size, np.stack(shares, 1), 1)


def _filter(distance: F64, interpolation: Interpolation) -> F64:
    """Return the triangle, or Catmull and Rom's cubic, as Pillow's."""
    if interpolation == "linear":
        return np.clip(1 - distance, 0, None)
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((2.5 - 0.5 * distance) * distance - 4) * distance + 2
    return np.where(distance < 1, near, np.where(distance < 2, far, 0))


def _divided(images: Tensor, shares: list[F64]) -> Tensor:
    """Divide the outermost rows and columns on both sides by the shares (B, reach) of their weights."""
    for dim, inside in enumerate(shares, 1):
        reach, size = inside.shape[1], images.shape[dim]
        places = upload(torch.tensor([*range(reach), *range(size - reach, size)]), images.device)
        factors = torch.from_numpy((1 / np.concatenate([inside, inside[:, ::-1]], 1)).astype(np.float32)).unsqueeze(3 - dim)
        pixels = images.index_select(dim, places) * upload(factors.unsqueeze(3), images.device)
        images.index_copy_(dim, places, pixels.round_().clamp_(0, 255).to(torch.uint8))
    return images
