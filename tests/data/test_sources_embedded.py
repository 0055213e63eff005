"""Tests of translated digits: each is one of the digits at a place and size of its own."""

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError
from sklearn.datasets import load_digits

from rsa.data.sources import Source, open_source
from rsa.data.sources.embedded import Digits, TranslatedDigits

CANVAS, SMALLEST, LARGEST = 16, 10, 13


def section(size: list[int]) -> TranslatedDigits:
    return TranslatedDigits(source="translated_digits", raw="none", canvas=CANVAS, size=size, test_fraction=0.2)


def images(source: Source) -> dict[str, NDArray[np.uint8]]:
    samples = [sample for split in source.splits.values() for sample in split]
    return {sample.key: np.asarray(Image.open(io.BytesIO(source.read(sample))).convert("L")) for sample in samples}


def test_each_digit_is_somewhere_on_its_canvas_in_a_size_between_the_limits():
    made = images(open_source(section([SMALLEST, LARGEST]), 0))
    places, sizes = set(), set()
    for number in range(0, 1797, 60):
        digit = Image.fromarray(np.round(load_digits().images[number] * 255 / 16).astype(np.uint8))
        found = []
        for size in range(SMALLEST, LARGEST + 1):
            alone = np.asarray(digit.resize((size, size), Image.Resampling.BICUBIC))
            for top in range(CANVAS - size + 1):
                for left in range(CANVAS - size + 1):
                    canvas = np.zeros((CANVAS, CANVAS), np.uint8)
                    canvas[top : top + size, left : left + size] = alone
                    if (canvas == made[f"digit_{number:04d}"]).all():
                        found.append((size, top, left))
        assert found, number
        sizes.add(found[0][0])
        places.add(found[0][1:])
    assert sizes == set(range(SMALLEST, LARGEST + 1))
    assert len(places) > 8


def test_the_seed_alone_moves_digits_and_the_same_ones_are_held_out_as_of_digits():
    source, again, other = (open_source(section([SMALLEST, LARGEST]), seed) for seed in (0, 0, 1))
    first, second, third = map(images, (source, again, other))
    assert all((first[key] == second[key]).all() for key in first)
    assert sum((first[key] != third[key]).any() for key in first) > 1500
    plain = open_source(Digits(source="digits", raw="none", size=8, test_fraction=0.2), 0)
    assert {s.key for s in source.splits["test"]} == {s.key for s in plain.splits["test"]}


@pytest.mark.parametrize("size", [[13, 10], [10, 17]])
def test_sizes_that_do_not_fit_the_canvas_are_refused(size: list[int]):
    with pytest.raises(ValidationError, match=r"at most canvas \(16\)"):
        section(size)
