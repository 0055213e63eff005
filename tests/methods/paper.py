"""BYOL's distance, written again in NumPy from the paper: the tests of all methods compare with it."""

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]


def d(q: F64, z: F64) -> F64:
    """|| q/|q| - z/|z| ||^2 of every row, Grill et al. 2020, equation 2."""
    q = q / np.sqrt((q**2).sum(1, keepdims=True))
    z = z / np.sqrt((z**2).sum(1, keepdims=True))
    return ((q - z) ** 2).sum(1)


def numeric_gradient(loss, x: F64, step: float = 1e-6) -> F64:
    """Central differences of a function of one array, one entry at a time."""
    gradient = np.zeros_like(x)
    for place in np.ndindex(*x.shape):
        for sign in (1, -1):
            moved = x.copy()
            moved[place] += sign * step
            gradient[place] += sign * loss(moved) / (2 * step)
    return gradient
