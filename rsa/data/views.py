"""Recipes of views, and the random parameters of each view of each sample.

A recipe is a list of crops and a list of views; each view is a crop with or without colour. An aggressive view of RSA
applies colour to a weak view's crop: same box, same flip. All parameters are drawn here in numpy from a counter
(`rsa.data.philox`), with torchvision's distributions; `rsa.data.loader` applies them.

Two recipes with the same seed share their draws: RSA's aggressive views are BYOL's views.
"""

from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from rsa.data import color
from rsa.data.color import Affine
from rsa.data.philox import uniforms
from rsa.params.views import BlurKernel, Interpolation, Jitter, Views

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
I32 = NDArray[np.int32]

TRIES = 10  # of RandomResizedCrop, before it falls back to the central crop
COLOR_STREAM = 1 << 8  # the counter's view number of the first colour; crops use smaller numbers


@dataclass(frozen=True)
class Crop:
    """A random resized crop and flip: torchvision's RandomResizedCrop, RandomHorizontalFlip."""

    size: int  # px
    scale: tuple[float, float]  # share of the image's area
    ratio: tuple[float, float]  # width / height
    interpolation: Interpolation
    flip_prob: float
    exact: bool  # torchvision's outermost pixels, too: see rsa.data.border


@dataclass(frozen=True)
class Color:
    """ColorJitter with a probability, RandomGrayscale, a Gaussian blur and a solarisation with probabilities."""

    jitter: Jitter
    gray_prob: float
    blur_prob: float
    blur_sigma: tuple[float, float]  # px
    blur_kernel: BlurKernel
    solarize_prob: float
    exact: bool  # torchvision's arithmetic, operation by operation


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
        """Descriptions of the views."""
        return [f"crop {view.crop + 1}" + (", coloured" if view.color else "") for view in self.views]


def crop_of(p: Views) -> Crop:
    """Return the crop of the `views` section."""
    return Crop(p.size, p.crop_scale, p.crop_ratio, p.interpolation, p.flip_prob, p.exact_color)


def color_of(p: Views, view: int) -> Color:
    """Return the colour of a view; hard-view candidates alternate between the first and second view's settings."""
    return Color(
        p.jitter, p.gray_prob, p.blur.prob[view % 2], p.blur.sigma, p.blur.kernel, p.solarize_prob[view % 2], p.exact_color
    )


def candidates(p: Views, count: int = 2) -> Recipe:
    """Return a recipe of `count` coloured views: two for BYOL, SimCLR, SimSiam, ..., more for Hard View Selection."""
    return Recipe([crop_of(p)] * count, [View(i, color_of(p, i)) for i in range(count)])


def candidate_view_pairs(p: Views, count: int = 2) -> Recipe:
    """Return RSA's recipe: `count` weak views (crop, flip), then an aggressive view (colour) made from each."""
    weak = [View(i, None) for i in range(count)]
    return Recipe([crop_of(p)] * count, weak + [View(i, color_of(p, i)) for i in range(count)])


def weak_views(p: Views, count: int = 1) -> Recipe:
    """Return a recipe of `count` views without colour, for supervised training."""
    return Recipe([crop_of(p)] * count, [View(i, None) for i in range(count)])


def plain_crops(size: int, scale: tuple[float, float], interpolation: Interpolation) -> Recipe:
    """Return a recipe of one view with torchvision's RandomResizedCrop and RandomHorizontalFlip, for classifiers."""
    return Recipe([Crop(size, scale, (3 / 4, 4 / 3), interpolation, 0.5, exact=True)], [View(0, None)])


def multi_crop(p: Views, count: int = 2, local_count: int | None = None) -> Recipe:
    """Return a recipe of `count` global views and some local ones (Caron et al. 2020, SwAV), for DINO and iBOT."""
    if p.local is None:
        raise ValueError("views.local must be set for multi-crop, got null")
    local_crop = Crop(p.local.size, p.local.crop_scale, p.crop_ratio, p.interpolation, p.flip_prob, p.exact_color)
    local_color = Color(
        p.jitter, p.gray_prob, p.local.blur_prob, p.blur.sigma, p.blur.kernel, p.local.solarize_prob, p.exact_color
    )
    global_views = candidates(p, count)
    local_count = p.local.count if local_count is None else local_count
    return Recipe(
        global_views.crops + [local_crop] * local_count,
        global_views.views + [View(count + i, local_color) for i in range(local_count)],
    )


@dataclass(frozen=True)
class Boxes:
    """Crop boxes in px of the upright image, and flips."""

    start: I32  # (B, 2): top, left
    shape: I32  # (B, 2): height, width
    flip: I32  # (B,): 0 or 1


@dataclass(frozen=True)
class Colors:
    """The colour parameters of B samples: affine maps, a hue rotation, affine maps again, blur and solarisation."""

    before: list[Affine]
    turns: F64  # (B,) rotation of hue; 0: none
    after: list[Affine]
    sigma: F64  # (B,) px; 0: no blur
    kernel: BlurKernel
    solarize: NDArray[np.bool_]  # (B,)

    def __getitem__(self, part: slice) -> "Colors":
        """Return the parameters of a slice of the batch."""
        before, after = ([Affine(*(x[part] for x in step)) for step in steps] for steps in (self.before, self.after))
        return Colors(before, self.turns[part], after, self.sigma[part], self.kernel, self.solarize[part])


def join_colors(parts: list[Colors]) -> Colors:
    """Concatenate the colours of several views, which must have the same settings but for probabilities."""
    one = parts[0]
    before, after = (
        [Affine(*map(np.concatenate, zip(*steps, strict=True))) for steps in zip(*maps, strict=True)]
        for maps in ([part.before for part in parts], [part.after for part in parts])
    )
    turns, sigma, solarize = (np.concatenate([getattr(part, name) for part in parts]) for name in ("turns", "sigma", "solarize"))
    return Colors(before, turns, after, sigma, one.kernel, solarize)


def draw_boxes(crop: Crop, number: int, seed: int, ids: I64, epochs: I64, heights: I64, widths: I64) -> Boxes:
    """Draw the boxes of crop `number`, distributed like torchvision's RandomResizedCrop.get_params."""
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
    """Return torchvision's fallback, the largest central box with an allowed ratio: (B, 2) of height, width."""
    ratio = widths / heights
    h = np.where(ratio < crop.ratio[0], np.round(widths / crop.ratio[0]), heights)
    w = np.where(ratio > crop.ratio[1], np.round(heights * crop.ratio[1]), widths)
    return np.stack([h, w], 1).astype(np.float64)


def draw_colors(p: Color, number: int, seed: int, ids: I64, epochs: I64) -> Colors:
    """Draw the colours of view `number`, distributed like torchvision's ColorJitter, RandomGrayscale and GaussianBlur."""
    u = uniforms(seed, ids, epochs, COLOR_STREAM + number, 13)
    spread = np.array([p.jitter.brightness, p.jitter.contrast, p.jitter.saturation])
    brightness, contrast, saturation = ((1 - spread) + 2 * spread * u[:, 0:3]).T  # spreads are at most 1: none is negative
    turns = p.jitter.hue * (2 * u[:, 3] - 1)
    order = np.argsort(u[:, 4:8], axis=1, kind="stable")  # (B, 4), uniform over the 24 orders
    jittered, gray = u[:, 8] < p.jitter.prob, u[:, 9] < p.gray_prob
    low, high = p.blur_sigma
    sigma = np.where(u[:, 10] < p.blur_prob, low + (high - low) * u[:, 11], 0)
    solarize = u[:, 12] < p.solarize_prob
    to_gray = color.gray(len(ids)).where(gray)
    before, after = (
        [step.where(jittered) for step in steps] for steps in color.jitter_steps(brightness, contrast, saturation, order)
    )
    if p.exact:
        return Colors(before, np.where(jittered, turns, 0), [*after, to_gray], sigma, p.blur_kernel, solarize)
    turn = color.turn_hue(turns).where(jittered)
    composed = reduce(Affine.then, [*before, turn, *after, to_gray])
    return Colors([composed], np.zeros(len(ids)), [], sigma, p.blur_kernel, solarize)
