import itertools
import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rsa.reporting.statistics import (
    POWER,
    bootstrap_coverage,
    detectable_ratio,
    hedges_correction,
    holm,
    paired_difference,
    sign_flip_test,
    smallest_p,
    summarize,
    t_test,
)


def of(differences, confidence: float = 0.95):
    """Paired differences to a baseline of zeros."""
    return paired_difference(dict(enumerate(differences)), dict.fromkeys(range(len(differences)), 0.0), confidence)


def test_summary_is_the_samples_mean_and_sd():
    got = summarize([80.0, 82.0, 87.0])
    assert (got.mean, got.n) == (83.0, 3)
    assert got.sd == pytest.approx(math.sqrt((9 + 1 + 16) / 2))  # n - 1 = 2


def test_one_number_has_no_sd_and_none_has_nothing():
    got = summarize([80.0])
    assert (got.mean, got.n) == (80.0, 1)
    assert math.isnan(got.sd)
    assert summarize([]).n == 0
    assert math.isnan(summarize([]).mean)


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("n", [2, 3, 5, 20])
def test_interval_and_p_equal_scipys_paired_t_test(n: int, confidence: float):
    random = np.random.default_rng(n)
    method, baseline = random.normal(80, 2, n), random.normal(79, 2, n)
    got = paired_difference(dict(enumerate(method)), dict(enumerate(baseline)), confidence)
    want = stats.ttest_rel(method, baseline)
    interval = want.confidence_interval(confidence)
    assert (got.low, got.high) == pytest.approx((interval.low, interval.high))
    assert got.p == pytest.approx(want.pvalue)
    assert got.mean == pytest.approx(method.mean() - baseline.mean())
    assert got.sd == pytest.approx((method - baseline).std(ddof=1))
    assert got.n == n


def test_interval_p_and_effect_by_hand():
    """Differences 1, 2, 3: mean 2, sd 1, t(0.975, 2) = 4.302653, half-width 4.302653 / sqrt(3) = 2.484138.

    t = 2 sqrt(3) = 3.464102; for 2 degrees of freedom P(|T| > t) = 1 - t / sqrt(t^2 + 2) = 1 - 3.464102 / sqrt(14) = 0.074180.
    d_z = 2; J(2) = gamma(1) / (sqrt(1) gamma(1/2)) = 1 / sqrt(pi) = 0.564190; of 8 signs 2 give a sum as large: p = 0.25.
    """
    got = paired_difference({0: 81.0, 1: 72.0, 2: 93.0}, {0: 80.0, 1: 70.0, 2: 90.0}, 0.95)
    assert (got.mean, got.low, got.high) == pytest.approx((2.0, -0.484138, 4.484138), abs=1e-5)
    assert got.half == pytest.approx(2.484138, abs=1e-5)
    assert got.p == pytest.approx(0.074180, abs=1e-6)
    assert got.effect == pytest.approx(2 / math.sqrt(math.pi))
    assert got.p_signs == 0.25


def test_pairing_is_by_seed_not_by_place():
    got = paired_difference({2: 93.0, 0: 81.0, 1: 72.0}, {0: 80.0, 1: 70.0, 2: 90.0}, 0.95)
    assert got == paired_difference({0: 81.0, 1: 72.0, 2: 93.0}, {0: 80.0, 1: 70.0, 2: 90.0}, 0.95)


def test_only_shared_seeds_are_compared():
    got = paired_difference({0: 81.0, 1: 72.0, 7: 1.0}, {0: 80.0, 1: 70.0, 2: 90.0}, 0.95)
    assert (got.mean, got.n) == (1.5, 2)
    assert paired_difference({0: 1.0}, {1: 1.0}, 0.95) is None


def test_one_pair_has_a_mean_and_nothing_else():
    got = of([80.0])
    assert (got.mean, got.n) == (80.0, 1)
    assert all(math.isnan(x) for x in (got.sd, got.low, got.high, *got.bootstrap, got.p, got.p_signs, got.effect, got.detectable))


def test_equal_differences_are_no_evidence():
    """20.1 - 20 and 10.1 - 10 differ in the last bits, which is no spread; nor are 431 and 452 of 1,438 images."""
    same = paired_difference({0: 20.1, 1: 10.1, 2: 0.1}, {0: 20.0, 1: 10.0, 2: 0.0}, 0.95)
    assert same.mean == pytest.approx(0.1)
    one_image = paired_difference(
        {0: 100 * 431 / 1438, 1: 100 * 452 / 1438}, {0: 100 * 430 / 1438, 1: 100 * 451 / 1438}, 0.95, 100 / 1438
    )
    for got in (same, one_image, of([0.0] * 3), of([5.0] * 10)):
        assert got.tied
        assert (got.sd, got.p) == (0, 1)
        assert all(math.isnan(x) for x in (got.low, got.high, *got.bootstrap, got.effect, got.detectable))
    assert holm([one_image.p, *[0.5] * 6])[0] == 1


def test_the_variance_of_rounding_is_added():
    """Differences 1, 2, 3 in steps of 1: variance 1 + 1/6, t = 2 / sqrt(7/6) x sqrt(3) = 3.207, p = 1 - t / sqrt(t^2 + 2)."""
    got = paired_difference({0: 81.0, 1: 72.0, 2: 93.0}, {0: 80.0, 1: 70.0, 2: 90.0}, 0.95, 1.0)
    assert got.sd == pytest.approx(math.sqrt(7 / 6))
    assert got.p == pytest.approx(1 - 3.20713 / math.sqrt(3.20713**2 + 2), abs=1e-5)
    assert got.half == pytest.approx(4.302653 * math.sqrt(7 / 6) / math.sqrt(3), abs=1e-5)


@given(st.lists(st.floats(0, 100), min_size=2, max_size=8), st.lists(st.floats(0, 100), min_size=8, max_size=8))
def test_swapping_the_sides_mirrors_the_interval_and_keeps_the_tests(values: list[float], others: list[float]):
    method, baseline = dict(enumerate(values)), dict(enumerate(others))
    one, other = paired_difference(method, baseline, 0.95), paired_difference(baseline, method, 0.95)
    mirrored = (-other.mean, -other.high, -other.low)
    assert (one.mean, one.low, one.high) == pytest.approx(mirrored, abs=1e-9, nan_ok=True)
    assert (one.p, one.p_signs, one.detectable) == pytest.approx((other.p, other.p_signs, other.detectable), nan_ok=True)
    assert one.tied or one.low <= one.mean <= one.high
    assert one.mean == pytest.approx(statistics.mean(values) - statistics.mean(others[: len(values)]), abs=1e-9)


# ---- the exact test ----


@pytest.mark.parametrize("n", [2, 3, 4, 6, 9])
def test_sign_flips_equal_every_permutation_written_out_and_scipy(n: int):
    d = np.random.default_rng(n).normal(0.7, 1, n)
    signs = np.array(list(itertools.product([1, -1], repeat=n)))
    means = np.abs((signs * d).mean(axis=1))
    want = (means >= abs(d.mean()) - 1e-12).mean()
    assert sign_flip_test(d) == pytest.approx(want)
    assert sign_flip_test(d) == pytest.approx(
        stats.permutation_test((d,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
    )


def test_ties_count_as_at_least_as_far():
    assert sign_flip_test(np.array([0.1, 0.1, 0.1, -0.1])) == 10 / 16  # |sum| is 0.4 twice, 0.2 eight times
    assert sign_flip_test(np.array([0.3, 0.1, 0.2])) == 0.25


@pytest.mark.parametrize("n", [2, 3, 5, 6, 20])
def test_the_smallest_p_is_reached_where_all_agree_and_never_passed(n: int):
    assert sign_flip_test(np.full(n, 1.5)) == smallest_p(n) == 2 / 2**n
    assert sign_flip_test(np.random.default_rng(0).normal(0, 1, n)) >= smallest_p(n)


def test_six_seeds_are_the_first_that_the_exact_test_can_show_anything_with():
    assert next(n for n in range(1, 10) if smallest_p(n) <= 0.05) == 6


def test_many_seeds_are_drawn_from_and_agree_with_the_t_test():
    d = np.random.default_rng(3).normal(0.4, 1, 40)
    assert sign_flip_test(d) == pytest.approx(stats.ttest_1samp(d, 0).pvalue, abs=0.01)


def test_the_exact_test_errs_as_often_as_it_says():
    """Of 4,000 experiments with 7 seeds and no difference, whatever the distribution, 2/128 x 3 have p <= 6/128."""
    random = np.random.default_rng(0)
    for draw in (random.standard_normal, lambda shape: random.standard_t(2, shape), lambda shape: random.uniform(-1, 1, shape)):
        ps = np.array([sign_flip_test(d) for d in draw((4000, 7))])
        assert (ps <= 6 / 128).mean() == pytest.approx(6 / 128, abs=3.5 * math.sqrt(6 / 128 / 4000))


# ---- intervals ----


@pytest.mark.parametrize("n", [3, 5])
def test_students_interval_holds_the_truth_as_often_as_it_says(n: int):
    d = np.random.default_rng(1).normal(2.0, 3.0, (4000, n))
    half = stats.t.ppf(0.975, n - 1) * d.std(axis=1, ddof=1) / math.sqrt(n)
    assert of(d[0]).half == pytest.approx(half[0])  # the formula of the simulation is that of the report
    assert (np.abs(d.mean(axis=1) - 2.0) <= half).mean() == pytest.approx(0.95, abs=0.012)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_the_bootstrap_cannot_hold_the_truth_more_often_than_the_range_does(n: int):
    """In simulation: between the least and the largest of n numbers lies their median with probability 1 - 2^(1-n)."""
    d = np.random.default_rng(2).normal(2.0, 3.0, (20000, n))
    held = ((d.min(axis=1) <= 2.0) & (d.max(axis=1) >= 2.0)).mean()
    assert held == pytest.approx(bootstrap_coverage(n), abs=0.011)
    for row in d[:40]:
        low, high = of(row).bootstrap
        assert row.min() - 1e-9 <= low <= high <= row.max() + 1e-9


def test_the_bootstrap_is_that_of_every_resample_where_numbers_are_symmetric():
    """BCa corrects nothing there: percentiles of all 5^5 means of 5 symmetric numbers, written out."""
    d = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    means = np.array([np.mean(sample) for sample in itertools.product(d, repeat=5)])
    assert of(d).bootstrap == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.21)  # a step of these means is 0.2


def test_the_bootstrap_is_the_same_every_time():
    assert of([1.0, 2.5, 3.0]).bootstrap == of([1.0, 2.5, 3.0]).bootstrap


# ---- what could have been shown ----


@pytest.mark.parametrize("confidence", [0.9, 0.95])
@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_a_detectable_difference_is_found_as_often_as_is_said(n: int, confidence: float):
    sd = 1.7
    shift = detectable_ratio(n, confidence) * sd
    d = np.random.default_rng(n).normal(shift, sd, (20000, n))
    found = stats.ttest_1samp(d, 0, axis=1).pvalue <= 1 - confidence
    assert found.mean() == pytest.approx(POWER, abs=0.012)


@pytest.mark.parametrize(("effect", "pairs"), [(0.5, 34), (0.8, 15)])
def test_the_pairs_that_a_power_analysis_asks_for(effect: float, pairs: int):
    """The textbook's cases of a two-sided paired t-test at 0.05 with power 0.8, as G*Power answers them."""
    assert detectable_ratio(pairs, 0.95) <= effect < detectable_ratio(pairs - 1, 0.95)


def test_what_is_not_shown_is_less_than_what_could_be():
    """So that `3 seeds cannot show less than X` is never said of a difference above X."""
    for seed in range(300):
        random = np.random.default_rng(seed)
        got = of(random.normal(random.normal(0, 2), 1, random.integers(2, 9)))
        if got.p > 0.05:
            assert abs(got.mean) < got.detectable


# ---- many comparisons ----


def test_holm_by_hand():
    """Sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1: 0.04, 0.06, 0.06, 0.04, which may not fall: 0.04, 0.06, 0.06, 0.06."""
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.9]) == [1, 1]
    assert holm([0.03]) == [0.03]
    assert holm([]) == []


def test_holm_leaves_out_what_is_no_comparison():
    got = holm([0.01, math.nan, 0.04])
    assert (got[0], got[2]) == pytest.approx((0.02, 0.04))
    assert math.isnan(got[1])


@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=8), st.floats(0.001, 0.2))
def test_holm_rejects_what_his_steps_reject(ps: list[float], level: float):
    """The procedure as published: reject in order while p <= level / (m - rank), stop at the first that is not."""
    rejected = set()
    for rank, i in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        if ps[i] * (len(ps) - rank) > level:
            break
        rejected.add(i)
    assert {i for i, p in enumerate(holm(ps)) if p <= level} == rejected


def test_holm_keeps_the_chance_of_any_error():
    """1,000 tables of 10 comparisons of 4 seeds without any difference: at most 5 % have one that is shown."""
    d = np.random.default_rng(5).normal(0, 1, (1000, 10, 4))
    ps = stats.ttest_1samp(d, 0, axis=2).pvalue
    assert np.mean([min(holm(list(row))) <= 0.05 for row in ps]) < 0.07
    assert np.mean([min(row) <= 0.05 for row in ps]) > 0.3


TABLES, COLUMNS = 4000, 7


@pytest.mark.parametrize("n", [2, 3, 4, 5, 7, 10])
@pytest.mark.parametrize("images", [100, 359, 1438, 10000])
def test_without_any_difference_at_most_1_report_in_20_shows_one(images: int, n: int):
    """Right test images are drawn for two methods of equal accuracy; a report has 7 columns."""
    random = np.random.default_rng(n * images)
    step, level = 100 / images, 0.05
    noise = 3 * math.sqrt(level * (1 - level) / TABLES)
    for accuracy in (0.3, 0.9, 0.985, 0.999):
        d = step * (random.binomial(images, accuracy, (2, TABLES, COLUMNS, n)))
        ps = t_test(d[0] - d[1], step)[1]
        wrong = [min(holm(list(row))) <= level for row in ps]
        assert np.mean(wrong) <= level + noise
        assert (ps <= level).mean() <= level + noise / math.sqrt(COLUMNS)


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_classes_of_unequal_size_show_no_more(n: int):
    """Mean per-class accuracy over one large class and small ones: nearly equal differences are ties of the small classes."""
    random = np.random.default_rng(n)
    sizes = np.array([1000, 10, 10, 10])
    scores = 100 * (random.binomial(sizes, 0.95, (2, TABLES, COLUMNS, n, 4)) / sizes).mean(-1)
    ps = t_test(scores[0] - scores[1], 100 / (4 * 10))[1]
    assert np.mean([min(holm(list(row))) <= 0.05 for row in ps]) <= 0.06
    assert (ps <= 0.05).mean() <= 0.054


# ---- effect size ----


@pytest.mark.parametrize("degrees", [1, 2, 3, 9, 30])
def test_hedges_correction_is_its_definition(degrees: int):
    want = math.gamma(degrees / 2) / (math.sqrt(degrees / 2) * math.gamma((degrees - 1) / 2)) if degrees > 1 else 0
    assert hedges_correction(degrees) == pytest.approx(want)
    if degrees > 2:
        assert hedges_correction(degrees) == pytest.approx(1 - 3 / (4 * degrees - 1), abs=0.01)  # the usual approximation


def test_the_effect_is_unbiased():
    d = np.random.default_rng(7).normal(1.5, 1.0, (40000, 6))
    effects = d.mean(axis=1) / d.std(axis=1, ddof=1) * hedges_correction(5)
    assert of(d[0]).effect == pytest.approx(effects[0])
    assert effects.mean() == pytest.approx(1.5, abs=0.02)


def test_two_seeds_have_no_effect_size():
    assert math.isnan(of([1.0, 2.0]).effect)
