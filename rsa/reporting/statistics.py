"""Statistics over seeds: summaries, and paired differences with intervals, tests, effect size and detectable difference.

The seeds are the sample: all inferences are about other seeds of the same recipe on the same test images, not about other
images. Differences are paired because a seed gives every method the same initial encoder, order of images and crops.

Holm: S. Holm 1979, A simple sequentially rejective multiple test procedure. Effect size: Cohen's d_z = mean / sd of the
differences (Cohen 1988, section 2.3.5; Lakens 2013, equation 6), with Hedges' (1981) exact correction for small n. Detectable
difference: the true difference that a paired t-test finds with probability POWER, from the noncentral t distribution
(Cohen 1988, chapter 2; Bloom 1995, Minimum detectable effects), at the standard deviation that the n differences have.

Scores are whole numbers of steps, so a few differences are easily all equal, or nearly, by chance. Therefore the variance of
rounding two scores to steps, step^2 / 6 (Sheppard 1898), is added to that of the differences, and n equal differences, whose
spread is unknown, are no evidence: p is 1. With both, true null hypotheses are rejected at most as often as the level says,
which the tests simulate.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

POWER = 0.8  # at the detectable difference
EXACT = 20  # number of seeds up to which all 2^n signs are enumerated; above it, signs are sampled
RESAMPLES = 9999  # number of bootstrap resamples


@dataclass(frozen=True)
class Summary:
    """Summary of n numbers; `sd` is the sample standard deviation (n - 1). Undefined values are NaN."""

    mean: float
    sd: float
    n: int


def summarize(values: Sequence[float]) -> Summary:
    """Compute mean and standard deviation over seeds."""
    mean = float(np.mean(values)) if values else math.nan
    return Summary(mean, float(np.std(values, ddof=1)) if len(values) > 1 else math.nan, len(values))


@dataclass(frozen=True)
class Difference:
    """Statistics of n paired differences, in the unit of the scores; values undefined for this n are NaN."""

    n: int
    mean: float
    sd: float  # of the differences and of rounding to steps; 0 if all are equal
    low: float  # Student's t interval
    high: float
    bootstrap: tuple[float, float]  # BCa interval
    p: float  # two-sided paired t-test; 1 if all differences are equal
    p_signs: float  # exact paired permutation test: all 2^n signs of the differences
    effect: float  # Cohen's d_z with Hedges' correction
    detectable: float  # true difference that the t-test detects with probability POWER

    @property
    def half(self) -> float:
        """Half the width of Student's interval."""
        return (self.high - self.low) / 2

    @property
    def tied(self) -> bool:
        """True if the differences of several seeds are all equal."""
        return self.sd == 0


def paired_difference(
    method: dict[int, float], baseline: dict[int, float], confidence: float, step: float = 0.0
) -> Difference | None:
    """Compute method - baseline over shared seeds (both map seed -> score, in steps of `step`); return None if there are none."""
    seeds = sorted(method.keys() & baseline.keys())
    if not seeds:
        return None
    d = np.array([method[seed] - baseline[seed] for seed in seeds])
    mean, n, nan = float(d.mean()), len(seeds), math.nan
    if n == 1:
        return Difference(n, mean, nan, nan, nan, (nan, nan), nan, nan, nan, nan)
    sd, p = map(float, t_test(d, step))
    if sd == 0:
        return Difference(n, mean, sd, nan, nan, (nan, nan), p, sign_flip_test(d), nan, nan)
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * sd / math.sqrt(n)
    return Difference(
        n=n,
        mean=mean,
        sd=sd,
        low=mean - half,
        high=mean + half,
        bootstrap=_bootstrap(d, confidence),
        p=p,
        p_signs=sign_flip_test(d),
        effect=mean / sd * hedges_correction(n - 1) if n > 2 else nan,
        detectable=detectable_ratio(n, confidence) * sd,
    )


def t_test(differences: NDArray[np.float64], step: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Test n > 1 differences (..., n) of scores in steps of `step` by a two-sided t-test; return standard deviation and p, (...).

    The standard deviation includes rounding. Where all n differences are equal it is 0, and p is 1.
    """
    n = differences.shape[-1]
    tied = np.ptp(differences, axis=-1) < 1e-9  # points; equal but for floating point
    sd = np.sqrt(differences.var(axis=-1, ddof=1) + step**2 / 6)
    t = np.abs(differences.mean(axis=-1)) / np.where(tied, 1.0, sd) * math.sqrt(n)
    return np.where(tied, 0.0, sd), np.where(tied, 1.0, 2 * stats.t.sf(t, n - 1))


def _bootstrap(d: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    result = stats.bootstrap((d,), np.mean, n_resamples=RESAMPLES, confidence_level=confidence, method="BCa", rng=0)
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def bootstrap_coverage(n: int) -> float:
    """Return an upper bound on the coverage of a bootstrap interval of n symmetrically distributed differences: 1 - 2^(1-n).

    The interval never extends beyond the smallest and largest difference, and with probability 2 x 2^-n all differences lie
    on one side of the true one.
    """
    return 1 - 2.0 ** (1 - n)


def sign_flip_test(differences: NDArray[np.float64]) -> float:
    """Return the two-sided p-value of the sign-flip test: the share of sign patterns with a mean at least as far from 0.

    All patterns are counted for up to EXACT differences; for more, some are sampled.
    """
    n, size = len(differences), np.abs(differences)
    observed = abs(differences.sum()) * (1 - 1e-9)  # a tie to rounding is a tie
    if n > EXACT:
        signs = np.random.default_rng(0).choice([-1.0, 1.0], (2**16, n))
        return float((1 + (np.abs(signs @ size) >= observed).sum()) / (1 + 2**16))
    sums = np.zeros(1)
    for value in size:
        sums = np.concatenate([sums + value, sums - value])
    return float((np.abs(sums) >= observed).mean())


def smallest_p(n: int) -> float:
    """Return the smallest p-value of the exact test with n pairs, reached if all differences have one sign."""
    return 2.0 ** (1 - n)


def holm(ps: Sequence[float]) -> list[float]:
    """Adjust p-values by Holm's method; NaN stays NaN and does not count as a comparison."""
    adjusted = [math.nan] * len(ps)
    order = sorted((p, i) for i, p in enumerate(ps) if not math.isnan(p))
    largest = 0.0
    for rank, (p, i) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p))
        adjusted[i] = largest
    return adjusted


def hedges_correction(degrees: int) -> float:
    """Return Hedges' factor J, which makes d_z unbiased; 0 for one degree of freedom, where the expectation is infinite."""
    return float(np.exp(special.gammaln(degrees / 2) - special.gammaln((degrees - 1) / 2)) / math.sqrt(degrees / 2))


@functools.cache
def detectable_ratio(n: int, confidence: float) -> float:
    """Return the minimum detectable difference of n pairs, in standard deviations of the differences."""
    degrees, limit = n - 1, stats.t.ppf((1 + confidence) / 2, n - 1)

    def power(shift: float) -> float:
        return float(stats.nct.sf(limit, degrees, shift))  # the other tail is negligible, and scipy's is sometimes NaN

    high = 1.0
    while power(high) < POWER:
        high *= 2
    return float(optimize.brentq(lambda shift: power(shift) - POWER, 0.0, high)) / math.sqrt(n)
