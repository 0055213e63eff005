"""How the methods compare with the controls, which train nothing."""

import math
from typing import NamedTuple

import numpy as np

from rsa.reporting.results import Column, Results
from rsa.reporting.statistics import holm, t_test


class Standing(NamedTuple):
    """In how many columns every method is above a control."""

    control: str
    columns: int  # in which the control has scores
    above: int  # in which the mean of every method is higher
    significant: int  # in which every method is significantly higher


def standings(results: Results) -> list[Standing]:
    """Compare every method with every control by paired t-tests over seeds, with Holm's correction over all of them."""
    pairs = [
        (control, method, task) for control in results.controls for method in results.trained for task in results.tasks
        if results.summary(control, task).n and results.summary(method, task).n
    ]  # fmt: skip
    ps = holm([_p(results, *pair) for pair in pairs])
    level = 1 - results.confidence
    found = []
    for control in results.controls:
        columns = [task for task in results.tasks if results.summary(control, task).n]
        above = {(m, t): results.summary(m, t).mean > results.summary(c, t).mean for c, m, t in pairs if c == control}
        surely = {(m, t): above[m, t] and p <= level for (c, m, t), p in zip(pairs, ps, strict=True) if c == control}
        counts = [sum(all(there.get((m, t), True) for m in results.trained) for t in columns) for there in (above, surely)]
        found.append(Standing(control, len(columns), *counts))
    return found


def sentence(results: Results) -> str:
    """Say in how many columns all methods are above each control, and significantly so."""
    parts = [
        f"all methods above {found.control} in {found.above} of {found.columns} columns, significantly in {found.significant}"
        for found in standings(results)
    ]
    tested = " (paired t-tests over seeds, Holm-corrected)" if parts else ""
    return f"{'; '.join(parts) or 'the experiment has none'}{tested}."


def _p(results: Results, control: str, method: str, task: Column) -> float:
    ours, theirs = results.cells[method, *task], results.cells[control, *task]
    seeds = sorted(ours.keys() & theirs.keys())
    if len(seeds) < 2:
        return math.nan
    return float(t_test(np.array([ours[seed] - theirs[seed] for seed in seeds]), results.steps[task])[1])
