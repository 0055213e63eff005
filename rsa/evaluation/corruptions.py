"""The common corruptions of images, Hendrycks and Dietterich 2019, https://arxiv.org/abs/1903.12261, at five severities.

14 of the paper's 15 and three of its four extra ones, written after the authors' code (rsa/evaluation/severities.py says
where) on SciPy and Pillow; the packages that hold them need OpenCV, scikit-image and ImageMagick, and are no longer kept.
Left out: frost, which is made with the authors' photographs of frost; spatter, which is OpenCV's Canny and distance transform.

Differs: random draws depend only on (seed, sample, corruption, severity), with NumPy's Philox; values are rounded to 8 bits,
not cut off; images are square, of any size; elastic transform interpolates in floating point, motion blur and snow are
ImageMagick's motion blur written out. ImageNet-C's files are JPEGs of quality 85 behind all this, which is not repeated.
"""

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.random import Generator, Philox
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from rsa.data.color import LUMA
from rsa.evaluation.corruption_blurs import (
    defocus_blur,
    enlarge,
    gaussian_blur,
    glass_blur,
    motion_blur,
    smear,
    zoom_blur,
)
from rsa.evaluation.severities import IMAGENET, SEVERITIES

U8 = NDArray[np.uint8]
F64 = NDArray[np.float64]
NUMBERS = {name: number for number, name in enumerate(IMAGENET)}  # of the random streams


def corrupt(images: U8, ids: Sequence[int], name: str, severity: int, constants: str, seed: int) -> U8:
    """Corrupt images (B, S, S, 3) with corruption `name` at `severity` 1 to 5; `ids` (B,) are the samples' numbers."""
    strength = SEVERITIES[constants][name][severity - 1]
    randoms = [Generator(Philox(key=[seed, id], counter=[0, 0, NUMBERS[name], severity])) for id in ids]
    x = images / 255.0
    if name == "glass_blur":
        corrupted = glass_blur(x, strength, randoms)
    else:
        of_one = CORRUPTIONS[name]
        corrupted = np.stack([of_one(image, strength, random) for image, random in zip(x, randoms, strict=True)])
    return _eight_bits(corrupted)


def _eight_bits(x: F64) -> U8:
    return np.round(255 * np.clip(x, 0, 1)).astype(np.uint8)


# Below, x is one image (S, S, 3) in [0, 1].
# ---- noise ---------------------------------------------------------------------------------------


def _gaussian_noise(x: F64, scale: float, random: Generator) -> F64:
    return x + random.normal(scale=scale, size=x.shape)


def _shot_noise(x: F64, photons: float, random: Generator) -> F64:
    return random.poisson(x * photons) / photons


def _impulse_noise(x: F64, share: float, random: Generator) -> F64:
    """Add salt-and-pepper noise to each channel."""
    hit, salt = random.random(x.shape) <= share, random.random(x.shape) <= 0.5
    return np.where(hit, salt, x)


def _speckle_noise(x: F64, scale: float, random: Generator) -> F64:
    return x + x * random.normal(scale=scale, size=x.shape)


# ---- weather -------------------------------------------------------------------------------------


def _snow(x: F64, strength: tuple[float, ...], random: Generator) -> F64:
    mean, scale, zoom, threshold, radius, sigma, share = strength
    flakes = enlarge(random.normal(mean, scale, (*x.shape[:2], 1)), zoom)
    flakes = np.clip(np.where(flakes < threshold, 0, flakes), 0, 1)
    flakes = smear(flakes, radius, sigma, angle=random.uniform(-135, -45))
    gray = (x @ LUMA)[..., None]
    whiter: F64 = share * x + (1 - share) * np.maximum(x, 1.5 * gray + 0.5)
    return whiter + flakes + np.rot90(flakes, 2)


def _fog(x: F64, strength: tuple[float, float], random: Generator) -> F64:
    amount, decay = strength
    side = len(x)
    heights = _plasma(1 << (side - 1).bit_length(), decay, random)[:side, :side, None]
    brightest = x.max()
    fogged: F64 = (x + amount * heights) * brightest / (brightest + amount)
    return fogged


def _plasma(side: int, decay: float, random: Generator) -> F64:
    """Return periodic heights (side, side) in [0, 1] by the diamond-square algorithm; `side` is a power of two."""
    heights, step, roughness = np.zeros((side, side)), side, 100.0

    def between(four: F64) -> F64:
        return four / 4 + roughness * random.uniform(-roughness, roughness, four.shape)

    while step >= 2:
        half = step // 2
        corners = heights[::step, ::step]
        pairs = corners + np.roll(corners, -1, 0)
        centres = between(pairs + np.roll(pairs, -1, 1))
        heights[half::step, half::step] = centres
        heights[::step, half::step] = between(centres + np.roll(centres, 1, 0) + corners + np.roll(corners, -1, 1))
        heights[half::step, ::step] = between(centres + np.roll(centres, 1, 1) + corners + np.roll(corners, -1, 0))
        step, roughness = half, roughness / decay
    heights -= heights.min()
    scaled: F64 = heights / heights.max()
    return scaled


def _brightness(x: F64, more: float, _: Generator) -> F64:
    """Raise HSV's value: pixels keep their ratios of channels; black becomes grey."""
    value = x.max(-1, keepdims=True)
    raised = np.clip(value + more, 0, 1)
    brighter: F64 = np.where(value > 0, x * raised / np.where(value > 0, value, 1), raised)
    return brighter


# ---- digital -------------------------------------------------------------------------------------


def _contrast(x: F64, factor: float, _: Generator) -> F64:
    mean: F64 = x.mean((0, 1))
    return (x - mean) * factor + mean


def _saturate(x: F64, strength: tuple[float, float], _: Generator) -> F64:
    """Change HSV's saturation; grey pixels have hue 0, red, as in scikit-image."""
    factor, more = strength
    value = x.max(-1, keepdims=True)
    chroma = value - x.min(-1, keepdims=True)
    saturation = chroma / np.where(value > 0, value, 1)
    wanted = np.clip(saturation * factor + more, 0, 1)
    of_gray = np.array([0.0, 1.0, 1.0])
    below = np.where(chroma > 0, (value - x) / np.where(chroma > 0, chroma, 1), of_gray)  # 0 to 1: how far below the value
    changed: F64 = value - value * wanted * below
    return changed


def _elastic_transform(x: F64, strength: tuple[float, float, float], random: Generator) -> F64:
    """Apply a random affine map of three points, then smooth random shifts."""
    amount, sigma, shift = strength
    side = len(x)
    centre, reach = side // 2, side // 3
    corners = np.array([[centre + reach, centre + reach], [centre + reach, centre - reach], [centre - reach, centre - reach]])
    moved = corners + random.uniform(-shift, shift, (3, 2))
    rows, columns = np.mgrid[:side, :side].astype(np.float64)
    back = np.linalg.solve(np.column_stack([moved, np.ones(3)]), corners)  # (3, 2): x, y where a pixel comes from
    source = np.stack([columns, rows, np.ones_like(rows)], -1) @ back
    x = _sampled(x, source[..., 1], source[..., 0], "mirror")

    def shifts() -> F64:
        drawn = random.uniform(-1, 1, (side, side))
        smooth: F64 = ndimage.gaussian_filter(drawn, sigma, mode="reflect", truncate=3)
        return amount * smooth

    dx, dy = shifts(), shifts()
    return _sampled(x, rows + dy, columns + dx, "reflect")


def _sampled(x: F64, rows: F64, columns: F64, mode: Any) -> F64:
    """Sample bilinearly at these coordinates."""
    channels = [ndimage.map_coordinates(x[..., c], [rows, columns], order=1, mode=mode) for c in range(3)]
    return np.stack(channels, -1)


def _pixelate(x: F64, share: float, _: Generator) -> F64:
    side = len(x)
    small = Image.fromarray(_eight_bits(x)).resize((int(side * share),) * 2, Image.Resampling.BOX)
    return np.asarray(small.resize((side, side), Image.Resampling.BOX)) / 255.0


def _jpeg_compression(x: F64, quality: int, _: Generator) -> F64:
    buffer = io.BytesIO()
    Image.fromarray(_eight_bits(x)).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer)) / 255.0


CORRUPTIONS: dict[str, Callable[[F64, Any, Generator], F64]] = {
    "gaussian_noise": _gaussian_noise,
    "shot_noise": _shot_noise,
    "impulse_noise": _impulse_noise,
    "defocus_blur": defocus_blur,
    "motion_blur": motion_blur,
    "zoom_blur": zoom_blur,
    "snow": _snow,
    "fog": _fog,
    "brightness": _brightness,
    "contrast": _contrast,
    "elastic_transform": _elastic_transform,
    "pixelate": _pixelate,
    "jpeg_compression": _jpeg_compression,
    "speckle_noise": _speckle_noise,
    "gaussian_blur": gaussian_blur,
    "saturate": _saturate,
}  # all but glass blur, which takes a batch
