"""A batch of views, and the position of a batch in a run."""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from rsa.data.samples import Samples


@dataclass(frozen=True)
class Batch:
    """One rank's block of a global batch, with B samples."""

    iteration: int
    samples: Samples
    views: list[Tensor]  # each (B, size, size, 3) uint8

    def head(self, count: int) -> "Batch":
        """Return the first `count` samples."""
        return Batch(self.iteration, self.samples[:count], [view[:count] for view in self.views])

    def difference(self, other: "Batch") -> dict[str, float]:
        """Return the share of values that differ from another batch's views, and the mean difference in 255ths."""
        ours, theirs = (torch.cat([view.cpu().flatten() for view in batch.views]).int() for batch in (self, other))
        apart = (ours - theirs).abs().double()
        return {"share": float((apart > 0).double().mean()), "mean": float(apart.mean())}

    def micro_batches(self, count: int) -> "list[Batch]":
        """Split into `count` micro-batches of equal size, whose gradients are accumulated."""
        if count == 1:
            return [self]
        size = len(self.samples.ids) // count
        cuts = [slice(i * size, (i + 1) * size) for i in range(count)]
        return [Batch(self.iteration, self.samples[cut], [view[cut] for view in self.views]) for cut in cuts]


@dataclass(frozen=True)
class Position:
    """The position of a run in its data and the identity of the data, as needed to resume."""

    iteration: int
    seed: int
    batch_size: int
    index_sha256: str
    recipe_sha256: str

    def require_same_data(self, other: "Position") -> None:
        """Raise ValueError with both values if the other position belongs to different data."""
        for key, value in asdict(self).items():
            if key != "iteration" and getattr(other, key) != value:
                raise ValueError(f"the checkpoint was written with {key} {getattr(other, key)}, this run uses {value}")
