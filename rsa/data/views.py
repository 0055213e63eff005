"""What a method sees: recipes of views, and the random parameters of each view of each sample.

A recipe is a list of crops and a list of views, each view a crop with or without colour. An aggressive view of RSA is
the colour on top of a weak view's crop: same box, same flip. All parameters are drawn here in numpy from a counter
(`rsa.data.philox`), with torchvision's distributions; `rsa.data.graph` applies them.

Two recipes with the same seed share their draws: RSA's aggressive views are BYOL's views.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rsa.data import color
from rsa.data.philox import uniforms
from rsa.params import Blur, Jitter, Views

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
I32 = NDArray[np.int32]

TRIES = 10  # of RandomResizedCrop, before it falls back to the centre
COLOR_STREAM = 1 << 8  # the counter's view number of the first colour; crops have those below


@dataclass(frozen=True)
class Crop:
    """A random resized crop and flip: torchvision's RandomResizedCrop, RandomHorizontalFlip."""

    size: int  # px
    scale: tuple[float, float]  # share of the image's area
    ratio: tuple[float, float]  # width / height
    flip_prob: float


@dataclass(frozen=True)
class Color:
    """ColorJitter with a probability, RandomGrayscale, a Gaussian blur with a probability."""

    jitter: Jitter
    gray_prob: float
    blur: Blur


@dataclass(frozen=True)
class View:
    """A view is a crop (its number in the recipe), coloured or not."""

    crop: int
    color: Color | None


@dataclass(frozen=True)
class Recipe:
    """The views of one method."""

    crops: list[Crop]
    views: list[View]

    @property
    def names(self) -> list[str]:
        """What each view is, in words."""
        return [f"crop {view.crop + 1}" + (", coloured" if view.color else "") for view in self.views]


def crop_and_color(params: Views) -> tuple[Crop, Color]:
    """The crop and the colour of the `views` section."""
    crop = Crop(params.size, params.crop_scale, params.crop_ratio, params.flip_prob)
    return crop, Color(params.jitter, params.gray_prob, params.blur)


def two_views(params: Views) -> Recipe:
    """Two coloured views: BYOL, SimCLR, SimSiam."""
    crop, colored = crop_and_color(params)
    return Recipe([crop, crop], [View(0, colored), View(1, colored)])


def weak_and_aggressive(params: Views) -> Recipe:
    """RSA: two weak views (crop, flip), then an aggressive one (colour) made from each."""
    crop, colored = crop_and_color(params)
    return Recipe([crop, crop], [View(0, None), View(1, None), View(0, colored), View(1, colored)])


@dataclass(frozen=True)
class Boxes:
    """Crop boxes in px of the upright image, and flips."""

    start: I32  # (B, 2): top, left
    shape: I32  # (B, 2): height, width
    flip: I32  # (B,): 0 or 1


@dataclass(frozen=True)
class Colors:
    """One affine map of the pixels per sample, y = M x + K mean(x), and a blur of `sigma` px (0: none)."""

    matrix: F32  # (B, 3, 3): M
    mean_matrix: F32  # (B, 3, 3): K
    sigma: F32  # (B,)


def draw_boxes(crop: Crop, number: int, seed: int, ids: I64, epochs: I64, heights: I64, widths: I64) -> Boxes:
    """The boxes of crop `number`, distributed as torchvision's RandomResizedCrop.get_params."""
    u = uniforms(seed, ids, epochs, number, 4 * TRIES + 1)
    area, ratio, top, left = np.moveaxis(u[:, : 4 * TRIES].reshape(-1, TRIES, 4), 2, 0)  # (B, TRIES)
    height, width = heights[:, None].astype(np.float64), widths[:, None].astype(np.float64)
    target = height * width * (crop.scale[0] + (crop.scale[1] - crop.scale[0]) * area)
    low, high = np.log(crop.ratio)
    aspect = np.exp(low + (high - low) * ratio)
    w, h = np.round(np.sqrt(target * aspect)), np.round(np.sqrt(target / aspect))
    fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
    first = np.argmax(fits, axis=1)
    rows = np.arange(len(ids))
    w, h = w[rows, first], h[rows, first]
    start = np.stack([np.floor(top[rows, first] * (heights - h + 1)), np.floor(left[rows, first] * (widths - w + 1))], 1)
    shape = np.stack([h, w], 1)
    centred = ~fits.any(axis=1)
    if centred.any():
        shape[centred] = _central(crop, heights[centred], widths[centred])
        start[centred] = (np.stack([heights, widths], 1)[centred] - shape[centred]) // 2
    flip = u[:, -1] < crop.flip_prob
    return Boxes(start.astype(np.int32), shape.astype(np.int32), flip.astype(np.int32))


def _central(crop: Crop, heights: I64, widths: I64) -> F64:
    """torchvision's fallback: the largest central box whose ratio is allowed; (B, 2) of height, width."""
    ratio = widths / heights
    h = np.where(ratio < crop.ratio[0], np.round(widths / crop.ratio[0]), heights)
    w = np.where(ratio > crop.ratio[1], np.round(heights * crop.ratio[1]), widths)
    return np.stack([h, w], 1).astype(np.float64)


def draw_colors(params: Color, number: int, seed: int, ids: I64, epochs: I64) -> Colors:
    """The colours of coloured view `number`, distributed as torchvision's ColorJitter, RandomGrayscale, RandomApply."""
    u = uniforms(seed, ids, epochs, COLOR_STREAM + number, 12)
    jitter = params.jitter
    spread = np.array([jitter.brightness, jitter.contrast, jitter.saturation])
    factors = (1 - spread) + 2 * spread * u[:, 0:3]  # (B, 3); spreads are at most 1, so none is negative
    hue = jitter.hue * (2 * u[:, 3] - 1)  # turns
    order = np.argsort(u[:, 4:8], axis=1, kind="stable")  # (B, 4), uniform over the 24 orders
    matrix, mean_matrix = color.jitter(factors[:, 0], factors[:, 1], factors[:, 2], hue, order)
    off = u[:, 8] >= jitter.prob
    matrix[off], mean_matrix[off] = np.eye(3), 0
    gray = u[:, 9] < params.gray_prob
    matrix[gray], mean_matrix[gray] = color.GRAY @ matrix[gray], color.GRAY @ mean_matrix[gray]
    low, high = params.blur.sigma
    sigma = np.where(u[:, 10] < params.blur.prob, low + (high - low) * u[:, 11], 0)
    return Colors(matrix.astype(np.float32), mean_matrix.astype(np.float32), sigma.astype(np.float32))
