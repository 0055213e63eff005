"""The shift of hue against its textbook formula and against what symmetry demands."""

import colorsys

import numpy as np
import pytest
import torch

from rsa.data.hue import hue_offsets, turn_hue

PIXELS = np.random.default_rng(0).integers(0, 256, (64, 3, 16, 16))
PIXELS[:16] = PIXELS[:16, :1]  # grey
PIXELS[16:32, 1] = PIXELS[16:32, 2]  # between two sectors
PIXELS[32:40] = 255 * (PIXELS[32:40] > 127)


def turned(turns: np.ndarray | float, pixels: np.ndarray = PIXELS) -> np.ndarray:
    x = torch.from_numpy(pixels.astype(np.float32))
    turn_hue(x, torch.from_numpy(hue_offsets(np.broadcast_to(turns, len(x)))))
    return x.numpy()


def test_is_the_shift_of_hue_in_hsv():
    turns = np.random.default_rng(1).uniform(-0.5, 0.5, len(PIXELS))
    want = np.empty(PIXELS.shape)
    for i, y, x in np.ndindex(len(PIXELS), 16, 16):
        hue, saturation, value = colorsys.rgb_to_hsv(*PIXELS[i, :, y, x])
        want[i, :, y, x] = colorsys.hsv_to_rgb((hue + turns[i]) % 1, saturation, value)
    got = turned(turns)
    assert np.abs(got - want).max() <= 0.5 + 255 / 2**14  # rounding, and the grid of turns
    assert np.mean(got == np.round(want)) > 0.99


@pytest.mark.parametrize("turns", [0.0, 1.0, 1e-9])
def test_a_whole_turn_changes_nothing(turns: float):
    np.testing.assert_array_equal(turned(turns), PIXELS)


def test_a_third_of_a_turn_exchanges_channels_and_half_a_turn_takes_the_opposite_color():
    np.testing.assert_array_equal(turned(1 / 3), np.roll(PIXELS, 1, axis=1))
    np.testing.assert_array_equal(turned(-1 / 3), np.roll(PIXELS, -1, axis=1))
    np.testing.assert_array_equal(turned(0.5), PIXELS.max(1, keepdims=True) + PIXELS.min(1, keepdims=True) - PIXELS)


def test_value_chroma_and_grey_stay():
    for turns in np.random.default_rng(2).uniform(-0.5, 0.5, 5):
        got = turned(turns)
        np.testing.assert_array_equal(got.max(1), PIXELS.max(1))
        np.testing.assert_array_equal(got.min(1), PIXELS.min(1))
        np.testing.assert_array_equal(got[:16], PIXELS[:16])
