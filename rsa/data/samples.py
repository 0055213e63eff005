"""The samples of a batch: the information that methods get in addition to the views."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Samples:
    """B samples of one rank; `ids`, `epoch` and `seed` form the counter of all random draws for them."""

    ids: NDArray[np.int64]  # (B,)
    labels: Tensor  # (B,) int64; -1: unlabelled
    boxes: NDArray[np.int64]  # (crops, B, 5): top, left, height, width in px of the upright image; whether flipped
    epoch: int
    seed: int

    def __getitem__(self, part: slice) -> "Samples":
        """Return the samples of a slice of the batch."""
        return Samples(self.ids[part], self.labels[part], self.boxes[:, part], self.epoch, self.seed)
