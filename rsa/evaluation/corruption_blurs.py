"""The blurs among the common corruptions, each of one image (S, S, 3) in [0, 1]; glass blur of a batch of them."""

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage
from scipy.signal import fftconvolve

F64 = NDArray[np.float64]


def gaussian_blur(x: F64, sigma: float, _: Generator) -> F64:
    """Apply a Gaussian of `sigma` px."""
    return smoothed(x, sigma)


def smoothed(x: F64, sigma: float) -> F64:
    """Apply scikit-image's Gaussian filter."""
    smooth: F64 = ndimage.gaussian_filter(x, sigma, mode="nearest", truncate=4, axes=(-3, -2))
    return smooth


def defocus_blur(x: F64, strength: tuple[float, float], _: Generator) -> F64:
    """Convolve with a disk; `strength` is its radius and the smoothing of its edge in px."""
    kernel = disk(*strength)
    reach = len(kernel) // 2
    padded = np.pad(x, ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    blurred: F64 = fftconvolve(padded, kernel[:, :, None], mode="valid", axes=(0, 1))
    return blurred


def disk(radius: float, sigma: float) -> F64:
    """Return a disk of sum 1 with its edge smoothed over 3 or 5 px."""
    reach, width = (8, 3) if radius <= 8 else (int(radius), 5)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disk: F64 = (x**2 + y**2 <= radius**2).astype(np.float64)
    disk /= disk.sum()
    edge = np.exp(-((np.arange(width) - width // 2) ** 2) / (2 * sigma**2))
    for axis in (0, 1):
        disk = ndimage.correlate1d(disk, edge / edge.sum(), axis, mode="mirror")
    return disk


def glass_blur(x: F64, strength: tuple[float, int, int], randoms: list[Generator]) -> F64:
    """Blur a batch (B, S, S, 3) as glass does. As in the authors' code, swapping NumPy views copies one over the other."""
    sigma, reach, rounds = strength
    x = smoothed(x, sigma)
    side, every = x.shape[1], np.arange(len(x))
    places = range(side - reach, reach, -1)
    size = (rounds, len(places), len(places), 2)
    shifts = np.stack([random.integers(-reach, reach, size, dtype=np.int8) for random in randoms])  # (B, rounds, ..., 2): x, y
    for round_number in range(rounds):
        across, down = np.moveaxis(shifts[:, round_number].astype(np.int64), (3, 0), (0, 3))  # (rows, columns, B)
        for i, row in enumerate(places):
            for j, column in enumerate(places):
                x[:, row, column] = x[every, row + down[i, j], column + across[i, j]]
    return smoothed(x, sigma)


def motion_blur(x: F64, strength: tuple[float, float], random: Generator) -> F64:
    """Blur along a random direction; `strength` is the radius and sigma in px."""
    return smear(x, *strength, angle=random.uniform(-45, 45))


def smear(x: F64, radius: float, sigma: float, angle: float) -> F64:
    """Apply ImageMagick's motion blur: half a Gaussian along a line at `angle` degrees; pixels outside are those of the edge."""
    steps = np.arange(2 * int(np.ceil(radius)) + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    right = np.ceil(steps * np.cos(np.deg2rad(angle)) - 0.5).astype(np.int64)
    down = np.ceil(steps * np.sin(np.deg2rad(angle)) - 0.5).astype(np.int64)
    rows, columns = np.arange(x.shape[0]), np.arange(x.shape[1])
    blurred = np.zeros_like(x)
    for weight, dx, dy in zip(weights / weights.sum(), right, down, strict=True):
        blurred += weight * x[np.clip(rows + dy, 0, len(rows) - 1)][:, np.clip(columns + dx, 0, len(columns) - 1)]
    return blurred


def zoom_blur(x: F64, strength: tuple[float, float], _: Generator) -> F64:
    """Average over zooms from 1 to the first of `strength`, in steps of the second."""
    end, step = strength
    zooms = np.arange(1, end, step)
    return (x + sum(enlarge(x, zoom) for zoom in zooms)) / (len(zooms) + 1)


def enlarge(x: F64, zoom: float) -> F64:
    """Enlarge the centre of (S, S, C) to the same size by SciPy's linear zoom, axis by axis, which is faster."""
    side = len(x)
    kept = int(np.ceil(side / zoom))
    start, large = (side - kept) // 2, round(kept * zoom)
    places = (np.arange(side) + (large - side) // 2) * ((kept - 1) / max(large - 1, 1))
    before = np.minimum(places.astype(np.int64), max(kept - 2, 0))
    after, rest = np.minimum(before + 1, kept - 1), (places - before)[:, None, None]
    for _ in range(2):
        x = x[start : start + kept]
        x = (x[before] * (1 - rest) + x[after] * rest).swapaxes(0, 1)
    return x
