"""Counter-based random numbers: Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").

A draw is a pure function of (key, counter), so a sample's views depend on its id, the epoch, the view and the seed, and
never on which rank, thread or batch computes them. Checked against the vectors published with Random123.
"""

import numpy as np
from numpy.typing import NDArray

MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
WEYL = (0x9E3779B9, 0xBB67AE85)
LOW, SHIFT = np.uint64(0xFFFFFFFF), np.uint64(32)

U64 = NDArray[np.uint64]


def philox4x32(counter: tuple[U64, U64, U64, U64], key: tuple[int, int], rounds: int = 10) -> tuple[U64, U64, U64, U64]:
    """Return four words in [0, 2^32) for every counter; the four counter arrays (32-bit values) are broadcast."""
    x0, x1, x2, x3 = counter
    k0, k1 = key
    for _ in range(rounds):
        p0, p1 = MULTIPLIERS[0] * x0, MULTIPLIERS[1] * x2
        x0, x1, x2, x3 = (p1 >> SHIFT) ^ x1 ^ np.uint64(k0), p1 & LOW, (p0 >> SHIFT) ^ x3 ^ np.uint64(k1), p0 & LOW
        k0, k1 = (k0 + WEYL[0]) & 0xFFFFFFFF, (k1 + WEYL[1]) & 0xFFFFFFFF
    return x0, x1, x2, x3


def uniforms(seed: int, ids: NDArray[np.int64], epochs: NDArray[np.int64], view: int, count: int) -> NDArray[np.float64]:
    """Draw `count` numbers in [0, 1) for `view` of every sample id in its epoch: (B, count).

    The counter is (id low, id high, epoch, view << 16 | block of four draws), the key the 64-bit seed.
    """
    blocks = np.arange((count + 3) // 4, dtype=np.uint64)[None, :]
    sample = ids.astype(np.uint64)[:, None]  # (B, 1)
    words = philox4x32(
        (sample & LOW, sample >> SHIFT, epochs.astype(np.uint64)[:, None] & LOW, np.uint64(view << 16) | blocks),
        (seed & 0xFFFFFFFF, seed >> 32),
    )
    drawn = np.stack(np.broadcast_arrays(*words), axis=-1)  # (B, blocks, 4)
    return drawn.reshape(len(ids), -1)[:, :count] / 2.0**32
