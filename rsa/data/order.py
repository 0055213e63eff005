"""Which samples make up each global batch: a pseudo-random permutation of the whole split for every epoch.

The permutation is computed, not stored: a Feistel network (Luby and Rackoff 1988) with Philox as its round function is
a bijection of [0, 4^k) keyed by (seed, epoch); an image outside [0, N) is sent through again until it is inside (cycle
walking, Black and Rogaway 2002). So the ids of any batch cost the same for a thousand samples and for a billion, need no
memory, and no start-up.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from rsa.data.philox import LOW, philox4x32

I64 = NDArray[np.int64]
ROUNDS = 8  # four suffice in theory; small domains want more
BLOCK = 2**14  # places permuted at once: a single batch's few numbers are mostly overhead


def permute(places: I64, samples: int, seed: int, epoch: int) -> I64:
    """The ids at `places` of the epoch's order; both are numbers in [0, samples)."""
    half = max(1, ((samples - 1).bit_length() + 1) // 2)  # bits
    mask, shift = np.uint64((1 << half) - 1), np.uint64(half)
    found = places.astype(np.uint64)
    outside = np.ones(len(found), bool)
    while outside.any():
        left, right = found[outside] >> shift, found[outside] & mask
        for round_number in range(ROUNDS):
            left, right = right, left ^ (_mix(right, round_number, seed, epoch) & mask)
        found[outside] = left << shift | right
        outside = found >= samples
    return found.astype(np.int64)


def _mix(words: NDArray[np.uint64], round_number: int, seed: int, epoch: int) -> NDArray[np.uint64]:
    zero = np.zeros_like(words)
    counter = (
        words & LOW,
        zero + np.uint64(round_number),
        zero + np.uint64(epoch),
        zero + np.uint64(1 << 31),
    )  # no view's counter
    return philox4x32(counter, (seed & 0xFFFFFFFF, seed >> 32))[0]


class Order:
    """The ids of each global batch; the incomplete last batch of an epoch is dropped."""

    def __init__(self, samples: int, batch_size: int, seed: int) -> None:
        if samples < batch_size:
            raise ValueError(f"pretrain.batch_size must be at most the number of training images ({samples}), got {batch_size}")
        self.samples, self.batch_size, self.seed = samples, batch_size, seed
        self.steps_per_epoch = samples // batch_size
        self._block = lru_cache(maxsize=4)(self._find_block)

    def batch(self, iteration: int, rank: int = 0, world: int = 1) -> tuple[I64, int]:
        """The ids of `rank`'s contiguous block of a global batch, and their epoch."""
        epoch, place = divmod(iteration, self.steps_per_epoch)
        start = place * self.batch_size
        first, last = start + self.batch_size * rank // world, start + self.batch_size * (rank + 1) // world
        blocks = range(first // BLOCK, (last - 1) // BLOCK + 1)
        ids = np.concatenate([self._block(epoch, block) for block in blocks])
        return ids[first - blocks[0] * BLOCK : last - blocks[0] * BLOCK], epoch

    def _find_block(self, epoch: int, block: int) -> I64:
        return permute(np.arange(block * BLOCK, min((block + 1) * BLOCK, self.samples)), self.samples, self.seed, epoch)
