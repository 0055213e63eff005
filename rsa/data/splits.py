"""Selection of samples by class: held-out splits and balanced subsets, each a function of the labels and a seed."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


def by_class(labels: NDArray[np.int64], seed: int, num_classes: int | None = None) -> list[Indices]:
    """Return each class's indices in random order; without `num_classes`, up to the largest label."""
    random = np.random.Generator(np.random.Philox(key=[seed, 0]))
    return [random.permutation(np.flatnonzero(labels == label)) for label in range(num_classes or int(labels.max()) + 1)]


def held_out(
    labels: NDArray[np.int64],
    classes: Sequence[str],
    fraction: float,
    seed: int,
    singles: Literal["refused", "kept", "held out"] = "refused",
) -> tuple[Indices, Indices]:
    """Return (kept, held out), sorted: `fraction` of every class is held out, at least one image on either side.

    The image of a class that has only one is on the side that `singles` says.
    """
    kept, out = [], []
    for name, indices in zip(classes, by_class(labels, seed, len(classes)), strict=True):
        if len(indices) < 2 and singles == "refused":
            raise ValueError(f"class {name!r} must have at least 2 images for a split, got {len(indices)}: add some")
        cut = min(max(round(fraction * len(indices)), 1), len(indices) - 1)
        if len(indices) < 2:
            cut = len(indices) if singles == "held out" else 0
        out.append(indices[:cut])
        kept.append(indices[cut:])
    return np.sort(np.concatenate(kept)), np.sort(np.concatenate(out))


def balanced(labels: NDArray[np.int64], classes: Sequence[str], count: int, seed: int) -> Indices:
    """Return `count` sorted samples, equally many per class; the first classes get the remainder."""
    chosen = []
    for label, (name, indices) in enumerate(zip(classes, by_class(labels, seed, len(classes)), strict=True)):
        wanted = count // len(classes) + (label < count % len(classes))
        if len(indices) < wanted:
            raise ValueError(
                f"class {name!r} must have at least {wanted} images for a balanced subset of {count}, got {len(indices)}: "
                "add some or make the subset smaller"
            )
        chosen.append(indices[:wanted])
    return np.sort(np.concatenate(chosen))
