"""How the methods compare with the controls, which train nothing."""

import math
from typing import NamedTuple

import numpy as np

from rsa.reporting.results import Results
from rsa.reporting.scores import Column
from rsa.reporting.statistics import holm, t_test


class Standing(NamedTuple):
    """In how many columns every method is above a control."""

    control: str
    columns: int  # in which the control has scores
    above: int  # in which the mean of every method is higher
    significant: int  # in which every method is significantly higher


def standings(results: Results) -> list[Standing]:
    """Compare the methods with every control by paired t-tests over seeds that a method is above it, one-sided.

    The claim about a column is that all methods are above the control, so its p is the largest of theirs, which needs no
    correction for their number (the intersection-union test: Berger 1982). Holm's correction is over columns and controls.
    """
    columns = [(control, task) for control in results.controls for task in results.tasks if results.summary(control, task).n]
    tested = {
        column: [_p(results, column[0], method, column[1]) for method in results.trained if results.summary(method, column[1]).n]
        for column in columns
    }
    ps = dict(zip(columns, holm([_largest(tested[column]) for column in columns]), strict=True))
    result = []
    for control in results.controls:
        own = [column for column in columns if column[0] == control]
        above = sum(all(_above(results, control, method, task) for method in results.trained) for _, task in own)
        result.append(Standing(control, len(own), above, sum(ps[column] <= 1 - results.confidence for column in own)))
    return result


def sentence(results: Results) -> str:
    """Say in how many columns all methods are above each control, and significantly so."""
    parts = [
        f"all methods above {each.control} in {each.above} of {each.columns} columns, significantly in {each.significant}"
        for each in standings(results)
    ]
    tested = " (one-sided paired t-tests, Holm over columns)" if parts else ""
    return f"{'; '.join(parts) or 'the experiment has none'}{tested}."


def _above(results: Results, control: str, method: str, task: Column) -> bool:
    ours = results.summary(method, task)
    return not ours.n or ours.mean > results.summary(control, task).mean


def _largest(ps: list[float]) -> float:
    return math.nan if not ps or any(map(math.isnan, ps)) else max(ps)


def _p(results: Results, control: str, method: str, task: Column) -> float:
    ours, theirs = results.cells[method, *task], results.cells[control, *task]
    seeds = sorted(ours.keys() & theirs.keys())
    if len(seeds) < 2:
        return math.nan
    differences = np.array([ours[seed] - theirs[seed] for seed in seeds])
    p = float(t_test(differences, results.steps[task])[1])
    return p / 2 if differences.mean() > 0 and p < 1 else 1 - p / 2
