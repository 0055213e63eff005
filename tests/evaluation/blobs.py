"""Features with classes that overlap, so that accuracies are neither 0 nor 100."""

import numpy as np

from rsa.evaluation.features import Features


def blobs(count: int, seed: int, classes: int = 3, dimension: int = 4, spread: float = 1.0) -> Features:
    """`count` points about the corners of a cube, in a random order; as many of every class."""
    random = np.random.default_rng(seed)
    y = random.permutation(np.arange(count) % classes)
    x = np.eye(classes, dimension)[y] + spread * random.normal(size=(count, dimension))
    return Features(x.astype(np.float32), y.astype(np.int64))
