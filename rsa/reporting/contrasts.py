"""Contrasts: questions about more methods than one and the baseline, such as whether a pair helps more than its parts.

A contrast is a weighted sum of the scores of methods with the same seed, tested over seeds like a paired difference (which is
the contrast with weights 1 and -1). Contrasts are computed on the experiment's own dataset. Holm's correction is over all of
them but not over the report's comparisons, so that a few questions fixed in advance keep their power.
"""

import math
from typing import NamedTuple

from rsa.reporting.numbers import signed
from rsa.reporting.results import Results
from rsa.reporting.scores import Column
from rsa.reporting.statistics import Difference, holm, paired_difference


class Contrast(NamedTuple):
    """A contrast in one column."""

    name: str
    formula: str  # as `rsa_hard − byol_long`
    column: Column
    difference: Difference | None  # None if no seed has the scores of all its methods
    p: float  # of the t-test, after Holm correction over all contrasts; NaN for fewer than two seeds
    significant: bool


def contrasts(questions: dict[str, dict[str, float]], results: Results) -> list[Contrast]:
    """Answer every question in every column of the experiment's dataset."""
    columns = [column for column in results.tasks if column.dataset == results.experiment.dataset]
    asked = [(name, weights, column) for name, weights in questions.items() for column in columns]
    differences = [_difference(weights, column, results) for _, weights, column in asked]
    ps = holm([math.nan if each is None else each.p for each in differences])
    return [
        Contrast(name, formula(weights), column, each, p, p <= 1 - results.confidence)
        for (name, weights, column), each, p in zip(asked, differences, ps, strict=True)
    ]


def _difference(weights: dict[str, float], column: Column, results: Results) -> Difference | None:
    scores = [results.cells[method, *column] for method in weights]
    seeds = set.intersection(*map(set, scores))
    sums = {seed: sum(w * score[seed] for w, score in zip(weights.values(), scores, strict=True)) for seed in seeds}
    size = math.sqrt(sum(w * w for w in weights.values()) / 2)  # of rounding, beside that of a difference of two scores
    return paired_difference(sums, dict.fromkeys(seeds, 0.0), results.confidence, size * results.steps[column])


def formula(weights: dict[str, float]) -> str:
    """Write the weighted sum, as `rsa_hard − 0.5 byol − 0.5 rsa`, what is added first."""
    ordered = sorted(weights.items(), key=lambda item: item[1] < 0)
    terms = [f"{'−' if w < 0 else '+'} {'' if abs(w) == 1 else f'{abs(w):g} '}{method}" for method, w in ordered]
    return " ".join(terms).removeprefix("+ ")


def sentence(contrast: Contrast, where: str) -> str:
    """Answer in a sentence; `where` names the column."""
    d = contrast.difference
    head = f"{contrast.name} ({contrast.formula}), {where}"
    if d is None:
        return f"{head}: no seed has all scores."
    if d.n == 1 or d.tied:
        return f"{head}: {signed(d.mean, 1)} points, without any test."
    size = f"{signed(d.mean, 1)} ± {d.half:.1f} points, {d.n} seeds"
    return f"{head}: {size}; {'significant' if contrast.significant else 'not significant'} after correction."
