import numpy as np
import pytest
from scipy import stats

from rsa.data.philox import philox4x32, uniforms


@pytest.mark.parametrize(
    ("counter", "key", "want"),
    [  # Random123's kat_vectors, philox4x32 with 10 rounds
        ([0] * 4, [0, 0], [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_known_answers(counter, key, want):
    words = philox4x32(tuple(np.array([c], np.uint64) for c in counter), tuple(key))
    assert [int(word[0]) for word in words] == want


def test_a_draw_depends_on_seed_id_epoch_and_view_and_on_nothing_else():
    ids, epochs = np.arange(100), np.zeros(100, int)
    whole = uniforms(1, ids, epochs, 3, 10)
    np.testing.assert_array_equal(uniforms(1, ids[17:20], epochs[17:20], 3, 10), whole[17:20])
    np.testing.assert_array_equal(uniforms(1, ids, epochs, 3, 7), whole[:, :7])
    for other in (uniforms(2, ids, epochs, 3, 10), uniforms(1, ids + 100, epochs, 3, 10), uniforms(1, ids, epochs + 1, 3, 10)):
        assert not np.isin(other, whole).any()
    assert not np.isin(uniforms(1, ids, epochs, 4, 10), whole).any()


def test_ids_beyond_32_bits_are_told_apart():
    ids = np.array([7, 7 + 2**32])
    low, high = uniforms(0, ids, np.zeros(2, int), 0, 4)
    assert not np.isin(low, high).any()


def test_uniform_and_uncorrelated():
    drawn = uniforms(0, np.arange(20_000), np.zeros(20_000, int), 0, 8)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert all(stats.kstest(column, "uniform").pvalue > 1e-3 for column in drawn.T)
    correlation = np.corrcoef(drawn.T) - np.eye(8)
    assert np.abs(correlation).max() < 0.03  # four standard errors
