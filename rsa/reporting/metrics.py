"""The numbers of an experiment that DVC shows and compares.

They are grouped so that `dvc exp show --drop 'mean|interval'` leaves the differences, which fit a terminal beside params.
"""

import math

from rsa.reporting.results import Results

DIGITS = 2  # of points, as in the report's intervals


def metrics(results: Results) -> dict[str, dict[str, float]]:
    """Map `METHOD-BASELINE` to differences in points, `mean` to percents of each method, and `interval` to their ends.

    Names in them are as `digits knn`, `rsa digits knn` and `rsa-byol digits knn low`. What is not defined is left out, as the
    interval of a single seed.
    """
    groups: dict[str, dict[str, float]] = {}
    intervals: dict[str, float] = {}
    for method, baseline, column, d, *_ in results.comparisons():
        if d is not None:
            pair, name = f"{method}-{baseline}", results.name(column)
            groups.setdefault(pair, {})[name] = d.mean
            intervals |= {f"{pair} {name} low": d.low, f"{pair} {name} high": d.high}
    rows = (results.experiment.baseline, *results.compared, *results.controls)
    groups["mean"] = {f"{row} {results.name(task)}": results.summary(row, task).mean for row in rows for task in results.tasks}
    groups["interval"] = intervals
    return {group: _defined(numbers) for group, numbers in groups.items()}


def _defined(numbers: dict[str, float]) -> dict[str, float]:
    return {name: round(value, DIGITS) for name, value in numbers.items() if not math.isnan(value)}
