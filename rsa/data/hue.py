"""The shift of hue in HSV, in whole numbers.

With value v, chroma c, least channel low, and hue h in sixths of a turn between -3 and 3, c |h| = c - (r - low) + (g - low) +
(b - low): this holds in each of the six sectors. The sign of h is that of g - b. After a shift by s, a channel is low +
clamp(c u - c, 0, c), where u is the distance of h + s, on a circle of 6, from the hue n that is opposite to the channel's: 3, 5
and 1 for R, G and B. Nothing is divided, and only the result is rounded.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

HUE_BITS = 13  # of a sixth of a turn: with the 11 bits of sums of products with a chroma, float32's 24


def hue_offsets(turns: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return (s - n) mod 6 - 3, between -3 and 3, for the channels of samples whose hue `turns` (B,) by s sixths: (B, 3)."""
    sixths = np.round(6 * turns * 2**HUE_BITS) / 2**HUE_BITS
    offsets: NDArray[np.float32] = ((sixths[:, None] - [3, 5, 1]) % 6 - 3).astype(np.float32)
    return offsets


def turn_hue(x: Tensor, offsets: Tensor) -> None:
    """Shift the hue of images (B, 3, H, W) of whole numbers in float32 by the `hue_offsets`, in place.

    The distance of w = h + (s - n) mod 6, which lies between -3 and 9, from 0 on the circle is |3 - |w - 3||.
    """
    r, g, b = x.unbind(1)
    v, low = torch.maximum(torch.maximum(r, g), b), torch.minimum(torch.minimum(r, g), b)
    c = v - low
    base = low - c
    hue = (g + b).sub_(r).sub_(base).copysign_(g - b)  # c h
    v, low, c, base, hue = (plane[:, None] for plane in (v, low, c, base, hue))
    torch.addcmul(hue, c, offsets[..., None, None], out=x)  # c (w - 3)
    x.abs_().sub_(c, alpha=3).abs_().add_(base).clamp_(low, v).round_()
