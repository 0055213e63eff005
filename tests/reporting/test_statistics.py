import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_rel

from rsa.reporting.statistics import Difference, paired_difference, summarize


def test_summary_is_the_samples_mean_and_sd():
    got = summarize([80.0, 82.0, 87.0])
    assert (got.mean, got.n) == (83.0, 3)
    assert got.sd == pytest.approx(math.sqrt((9 + 1 + 16) / 2))  # n - 1 = 2


def test_one_number_has_no_sd():
    got = summarize([80.0])
    assert (got.mean, got.n) == (80.0, 1)
    assert math.isnan(got.sd)


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("n", [2, 3, 5, 20])
def test_interval_equals_scipys_paired_t_test(n: int, confidence: float):
    random = np.random.default_rng(n)
    method, baseline = random.normal(80, 2, n), random.normal(79, 2, n)
    got = paired_difference(dict(enumerate(method)), dict(enumerate(baseline)), confidence)
    want = ttest_rel(method, baseline).confidence_interval(confidence)
    assert (got.low, got.high) == pytest.approx((want.low, want.high))
    assert got.mean == pytest.approx(method.mean() - baseline.mean())
    assert got.n == n


def test_interval_by_hand():
    """Differences 1, 2, 3: mean 2, sd 1, t(0.975, 2) = 4.302653, half-width 4.302653 / sqrt(3) = 2.484138."""
    got = paired_difference({0: 81.0, 1: 72.0, 2: 93.0}, {0: 80.0, 1: 70.0, 2: 90.0}, 0.95)
    assert (got.mean, got.low, got.high) == pytest.approx((2.0, -0.484138, 4.484138), abs=1e-5)
    assert not got.shown


def test_pairing_is_by_seed_not_by_place():
    got = paired_difference({2: 93.0, 0: 81.0, 1: 72.0}, {0: 80.0, 1: 70.0, 2: 90.0}, 0.95)
    assert got == paired_difference({0: 81.0, 1: 72.0, 2: 93.0}, {0: 80.0, 1: 70.0, 2: 90.0}, 0.95)


def test_only_shared_seeds_are_compared():
    got = paired_difference({0: 81.0, 1: 72.0, 7: 1.0}, {0: 80.0, 1: 70.0, 2: 90.0}, 0.95)
    assert (got.mean, got.n) == (1.5, 2)
    with pytest.raises(ValueError, match=r"must share seeds, got \[0\] and \[1\]"):
        paired_difference({0: 1.0}, {1: 1.0}, 0.95)


def test_one_pair_has_no_interval_and_shows_nothing():
    got = paired_difference({0: 90.0}, {0: 10.0}, 0.95)
    assert (got.mean, got.n) == (80.0, 1)
    assert math.isnan(got.low)
    assert math.isnan(got.high)
    assert not got.shown


@pytest.mark.parametrize(
    ("low", "high", "shown"), [(0.1, 2.0, True), (-2.0, -0.1, True), (-0.1, 2.0, False), (0.0, 2.0, False), (-2.0, 0.0, False)]
)
def test_a_difference_is_shown_only_where_the_interval_excludes_zero(low: float, high: float, shown: bool):
    assert Difference((low + high) / 2, low, high, 3).shown is shown


@given(st.lists(st.floats(0, 100), min_size=2, max_size=8), st.lists(st.floats(0, 100), min_size=8, max_size=8))
def test_swapping_the_sides_mirrors_the_interval(values: list[float], others: list[float]):
    method, baseline = dict(enumerate(values)), dict(enumerate(others))
    one, other = paired_difference(method, baseline, 0.95), paired_difference(baseline, method, 0.95)
    assert (one.mean, one.low, one.high) == pytest.approx((-other.mean, -other.high, -other.low), abs=1e-9)
    assert one.low <= one.mean <= one.high
    assert one.mean == pytest.approx(statistics.mean(values) - statistics.mean(others[: len(values)]), abs=1e-9)
