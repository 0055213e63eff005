"""Statistics over seeds: mean, standard deviation, and paired differences with a confidence interval."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Summary:
    """Of n numbers; `sd` is the sample's (n - 1), NaN for one number."""

    mean: float
    sd: float
    n: int


def summarize(values: list[float]) -> Summary:
    """Mean and standard deviation over seeds."""
    if not values:
        return Summary(math.nan, math.nan, 0)
    return Summary(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else math.nan, len(values))


@dataclass(frozen=True)
class Difference:
    """A mean of n paired differences and its confidence interval, NaN to NaN for one pair."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def shown(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0


def paired_difference(method: dict[int, float], baseline: dict[int, float], confidence: float) -> Difference:
    """method - baseline over the seeds that both have, with Student's t interval; both map seed -> score."""
    seeds = sorted(method.keys() & baseline.keys())
    if not seeds:
        raise ValueError(f"method and baseline must share seeds, got {sorted(method)} and {sorted(baseline)}")
    differences = np.array([method[seed] - baseline[seed] for seed in seeds])
    mean, n = float(differences.mean()), len(seeds)
    if n == 1:
        return Difference(mean, math.nan, math.nan, n)
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1) * differences.std(ddof=1) / math.sqrt(n))
    return Difference(mean, mean - half, mean + half, n)
