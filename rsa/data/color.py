"""Colour operations as affine maps of RGB pixels: y = M x + K mean(x), mean(x) the image's own mean pixel.

torchvision's ColorJitter applies brightness, contrast, saturation and hue in a random order. All are affine maps except hue,
which rotates the HSV hexagon. There are two ways to compute a jitter with greyscale:

- fast: hue rotates the chroma plane of YIQ instead, which is linear. Then all operations compose into one map.
- exact: the operations are applied one by one, each rounded to 8 bits, with hue in HSV, as in torchvision.

tests/data/test_color.py measures the deviation of both from torchvision on photographs.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R 601, as Pillow's and torchvision's greyscale
GRAY = np.tile(LUMA, (3, 1))  # a pixel's luma in all three channels

YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
RGB = np.linalg.inv(YIQ)

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)  # the numbers in an order of operations


class Affine(NamedTuple):
    """A batch of affine maps given by M and K, (B, 3, 3) each."""

    matrix: F64
    mean_matrix: F64

    def then(self, after: "Affine") -> "Affine":
        """Compose this map with a later one; the mean of y = M x + K mean(x) is (M + K) mean(x)."""
        return Affine(
            after.matrix @ self.matrix,
            after.matrix @ self.mean_matrix + after.mean_matrix @ (self.matrix + self.mean_matrix),
        )

    def where(self, chosen: NDArray[np.bool_]) -> "Affine":
        """Return this map with the identity for the samples that are not `chosen` (B,)."""
        same = identity(len(chosen))
        mask = chosen[:, None, None]
        return Affine(np.where(mask, self.matrix, same.matrix), np.where(mask, self.mean_matrix, same.mean_matrix))


def identity(count: int) -> Affine:
    """Return `count` identity maps."""
    return Affine(np.tile(np.eye(3), (count, 1, 1)), np.zeros((count, 3, 3)))


def gray(count: int) -> Affine:
    """Return `count` maps to greyscale: every channel becomes the luma."""
    return Affine(np.tile(GRAY, (count, 1, 1)), np.zeros((count, 3, 3)))


def jitter_steps(brightness: F64, contrast: F64, saturation: F64, order: NDArray[np.int64]) -> tuple[list[Affine], list[Affine]]:
    """Return three maps before hue and three after it, in each sample's `order` (B, 4) of the four operations.

    Whatever place hue has in the order, its rotation stands between the two lists; operations fill the places next to it and
    the others are identities.
    """
    same = np.tile(np.eye(3), (len(order), 1, 1))
    none = np.zeros_like(same)
    b, c, s = (factor[:, None, None] for factor in (brightness, contrast, saturation))
    matrices = np.stack([same * b, same * c, same * s + GRAY * (1 - s), same])  # (4, B, 3, 3), the last one in place of hue
    mean_matrices = np.stack([none, GRAY * (1 - c), none, none])  # contrast mixes with the mean luma
    rows = np.arange(len(order))
    padded = np.pad(order, ((0, 0), (3, 3)), constant_values=HUE)
    hue = 3 + np.argmax(order == HUE, axis=1)
    places = [padded[rows, hue + step] for step in (-3, -2, -1, 1, 2, 3)]
    maps = [Affine(matrices[place, rows], mean_matrices[place, rows]) for place in places]
    return maps[:3], maps[3:]


def turn_hue(turns: F64) -> Affine:
    """Return maps that rotate the chroma of YIQ by `turns` (B,), a linear form of hue: red turns towards yellow."""
    angle = -2 * np.pi * turns  # the axis I is orange, Q is magenta: an angle in their plane runs against hue
    c, s, zero, one = np.cos(angle), np.sin(angle), np.zeros_like(angle), np.ones_like(angle)
    turn = np.stack([one, zero, zero, zero, c, -s, zero, s, c], 1).reshape(-1, 3, 3)
    return Affine(RGB @ turn @ YIQ, np.zeros((len(turns), 3, 3)))
