"""Colour operations as affine maps of RGB pixels: y = M x + K mean(x), mean(x) the image's own mean pixel.

torchvision's ColorJitter applies brightness, contrast, saturation and hue in a random order. Every one of them is such a
map, and such maps compose, so a whole jitter with greyscale is one matrix product per pixel. Two departures, both
measured in the tests: values are clipped once at the end instead of after each operation, and hue turns the colour
plane of YIQ (linear) instead of HSV's hexagon.
"""

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

LUMA = np.array([0.2989, 0.587, 0.114])  # torchvision's weights of R, G, B
GRAY = np.tile(LUMA, (3, 1))  # a pixel's luma in all three channels

YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
RGB = np.linalg.inv(YIQ)


def jitter(brightness: F64, contrast: F64, saturation: F64, hue: F64, order: NDArray[np.int64]) -> tuple[F64, F64]:
    """M and K, (B, 3, 3) each, of four operations in each sample's `order` (B, 4) of 0: brightness ... 3: hue (in turns)."""
    count = len(order)
    eye = np.broadcast_to(np.eye(3), (count, 3, 3))
    operation = np.stack(
        [
            eye * _scale(brightness),
            eye * _scale(contrast),
            eye * _scale(saturation) + GRAY * _scale(1 - saturation),
            turn_hue(hue),
        ]
    )  # (4, B, 3, 3)
    about_mean = np.zeros((4, count, 3, 3))
    about_mean[1] = GRAY * _scale(1 - contrast)  # contrast mixes with the mean luma
    matrix, mean_matrix = eye.copy(), np.zeros((count, 3, 3))
    rows = np.arange(count)
    for place in order.T:
        m, k = operation[place, rows], about_mean[place, rows]
        # The mean of y = M x + K mean(x) is (M + K) mean(x).
        mean_matrix = m @ mean_matrix + k @ (matrix + mean_matrix)
        matrix = m @ matrix
    return matrix, mean_matrix


def turn_hue(turns: F64) -> F64:
    """(B, 3, 3): the chroma of YIQ turned by `turns`."""
    angle = 2 * np.pi * turns
    c, s, zero, one = np.cos(angle), np.sin(angle), np.zeros_like(angle), np.ones_like(angle)
    turn = np.stack([one, zero, zero, zero, c, -s, zero, s, c], 1).reshape(-1, 3, 3)
    turned: F64 = RGB @ turn @ YIQ
    return turned


def _scale(factor: F64) -> F64:
    return factor[:, None, None]
