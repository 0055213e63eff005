"""Block-wise patch masks for masked image modelling, drawn per sample from the counter."""

import math
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from rsa.data.philox import uniforms
from rsa.data.samples import Samples
from rsa.params.section import Fraction, Range, Section, require_ordered

STREAM = 1 << 9  # the counter's view number of the first mask; crops and colours use other numbers
DRAWS = 100  # of blocks, at most, for one image
TRIES = 10  # draws of one block, before the mask is left as it is
ASPECT = 0.3  # smallest aspect ratio of a block; the largest is its inverse


class Masks(Section):
    """Key `masks` of iBOT: the probability of a mask, and the range of the fraction of masked patches."""

    prob: Fraction
    ratio: Range

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        require_ordered("ratio", self.ratio, 0, 0.9)
        return self


def draw_masks(p: Masks, samples: Samples, view: int, grid: tuple[int, int]) -> NDArray[np.bool_]:
    """Draw masks (B, rows, columns), True for a masked patch.

    This is BEiT's block-wise masking (Bao et al. 2021, algorithm 1) as in iBOT's code (loader.py): with probability `prob` a
    fraction of the patches, uniform in `ratio`, is masked in blocks; else none.
    """
    u = uniforms(samples.seed, samples.ids, np.full(len(samples.ids), samples.epoch), STREAM + view, 2 + 4 * DRAWS)
    masks = np.zeros((len(samples.ids), *grid), bool)
    low, high = p.ratio
    for mask, draw in zip(masks, u, strict=True):
        if draw[0] < p.prob:
            _mask_blocks(mask, (low + (high - low) * draw[1]) * mask.size, draw[2:].reshape(DRAWS, 4))
    return masks


def _mask_blocks(mask: NDArray[np.bool_], wanted: float, draws: NDArray[np.float64]) -> None:
    """Mask random blocks until `wanted` patches are masked or TRIES blocks in a row don't fit.

    The area of a block is drawn between (shorter side // 3)^2 patches and the number of patches still wanted, its aspect ratio
    log-uniformly in [0.3, 1/0.3]. It fits if it is smaller than the grid and adds at least one patch and no more than wanted.
    """
    rows, columns = mask.shape
    smallest = (min(rows, columns) // 3) ** 2
    failures = 0
    for size, aspect, top, left in draws:
        missing = wanted - np.count_nonzero(mask)
        if missing <= 0 or failures == TRIES:
            return
        area = smallest + size * (missing - smallest)
        ratio = math.exp(math.log(ASPECT) * (1 - 2 * aspect))
        height, width = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        failures += 1
        if height < rows and width < columns:
            y, x = int(top * (rows - height + 1)), int(left * (columns - width + 1))
            block = mask[y : y + height, x : x + width]
            if 0 < block.size - np.count_nonzero(block) <= missing:
                block[:] = True
                failures = 0
