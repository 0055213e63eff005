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
BLOCKS = 16  # upper limit per image
SMALLEST = 4  # smallest number of patches in a block
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

    This is BEiT's block-wise masking (Bao et al. 2021, algorithm 1) as in iBOT: with probability `prob` a fraction of the
    patches, uniform in `ratio`, is masked in blocks of at least 4 patches and an aspect ratio in [0.3, 1/0.3]; else none.
    """
    rows, columns = grid
    u = uniforms(samples.seed, samples.ids, np.full(len(samples.ids), samples.epoch), STREAM + view, 2 + 4 * BLOCKS)
    masks = np.zeros((len(samples.ids), rows, columns), bool)
    low, high = p.ratio
    for mask, draw in zip(masks, u, strict=True):
        wanted = round(rows * columns * (low + (high - low) * draw[1])) if draw[0] < p.prob else 0
        for size, aspect, top, left in draw[2:].reshape(BLOCKS, 4):
            missing = wanted - int(mask.sum())
            if missing <= 0:
                break
            area = min(SMALLEST, missing) + size * max(0, missing - SMALLEST)
            ratio = math.exp(math.log(ASPECT) * (1 - 2 * aspect))
            height = min(rows, max(1, round(math.sqrt(area * ratio))))
            width = min(columns, max(1, round(math.sqrt(area / ratio))))
            y, x = int(top * (rows - height + 1)), int(left * (columns - width + 1))
            mask[y : y + height, x : x + width] = True
    return masks
