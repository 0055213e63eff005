"""The comparisons between the methods of an experiment that follow from its scores."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from rsa.params.document import Document
from rsa.reporting.numbers import signed
from rsa.reporting.scores import Column, column_name
from rsa.reporting.statistics import Difference, Summary, holm, paired_difference, summarize


class Comparison(NamedTuple):
    """A comparison of a method with the baseline in one column."""

    method: str
    baseline: str
    column: Column
    difference: Difference | None  # None if the two share no seed
    p: float  # of the t-test, after Holm correction over all comparisons; NaN for fewer than two seeds
    among: int  # number of comparisons in the correction
    level: float  # significance level

    @property
    def significant(self) -> bool:
        """True if the difference is significant after Holm correction."""
        return self.p <= self.level

    @property
    def significant_uncorrected(self) -> bool:
        """True if the difference is significant before correction for multiple comparisons."""
        return self.difference is not None and self.difference.p <= self.level

    def sentence(self, where: str) -> str:
        """Describe the comparison in one sentence; `where` names the column."""
        d, pair = self.difference, f"{self.method} and {self.baseline}"
        if d is None:
            return f"{where}: no seed has scores of both {pair}."
        if d.n == 1:
            return f"{where}: one seed cannot tell {self.method} from {self.baseline}."
        if d.tied:
            if abs(d.mean) < 1e-9:
                return f"{where}: {pair} have equal scores in each of {d.n} seeds."
            points = f"{signed(d.mean, 2)} points in each of {d.n} seeds"
            return f"{where}: {pair} differ by {points}; without any spread there is no test."
        size = (
            f"{self.method} {'better' if d.mean > 0 else 'worse'} than {self.baseline} by {abs(d.mean):.1f} ± {d.half:.1f} points"
        )
        if self.significant:
            return f"{where}: {size}, {d.n} seeds."
        if self.significant_uncorrected:
            return f"{where}: {size}, {d.n} seeds; significant before, but not after, correction for {self.among} comparisons."
        least = f"with {d.n} seeds, the minimum detectable difference is {d.detectable:.1f} points"
        return f"{where}: no significant difference between {pair} ({signed(d.mean, 1)} ± {d.half:.1f} points); {least}."


class Results:
    """The scores indexed by method and column; cells without scores are empty."""

    def __init__(self, table: pd.DataFrame, p: Document) -> None:
        self.experiment, self.confidence = p.experiment, p.report.confidence
        self.controls, self.trained = p.controls, p.trained
        self.tasks = [Column(*column) for column in dict.fromkeys(table[list(Column._fields)].itertuples(index=False, name=None))]
        self.cells: dict[tuple[str, str, str, str, str], dict[int, float]] = {
            (method, *task): {} for method in self.rows for task in self.tasks
        }
        self.steps: dict[Column, float] = {}
        self.best_on_test: dict[tuple[str, str, str, str, str], dict[int, float]] = {}
        for row in table.to_dict("records"):
            key = (row["method"], row["dataset"], row["task"], row["protocol"], row["metric"])
            self.cells[key][int(row["seed"])] = float(row["value"])
            self.steps[Column(*key[1:])] = max(float(row["step"]), self.steps.get(Column(*key[1:]), 0.0))
            if pd.notna(row["best_on_test"]):
                self.best_on_test.setdefault(key, {})[int(row["seed"])] = float(row["best_on_test"])

    @property
    def rows(self) -> Sequence[str]:
        """All methods in the order of the report: controls, the baseline, the others."""
        return [*self.controls, self.experiment.baseline, *self.compared]

    @property
    def compared(self) -> list[str]:
        """The methods that are compared with the baseline."""
        return [method for method in self.trained if method != self.experiment.baseline]

    def name(self, task: Column) -> str:
        """Return the short name of a column of this experiment."""
        return column_name(task, self.tasks)

    def summary(self, method: str, task: Column) -> Summary:
        """Return mean, standard deviation and n over seeds."""
        return summarize(list(self.cells[method, *task].values()))

    def optimism(self, method: str, task: Column) -> tuple[Summary, float] | None:
        """Return the best score on the test split and its mean excess over ours in points; None if it was not measured."""
        best, ours = self.best_on_test.get((method, *task), {}), self.cells[method, *task]
        if not best:
            return None
        return summarize(list(best.values())), summarize([value - ours[seed] for seed, value in best.items()]).mean

    def comparisons(self) -> list[Comparison]:
        """Compare every method with the baseline in every column."""
        base = self.experiment.baseline
        pairs = [(method, task) for method in self.compared for task in self.tasks]
        differences = [
            paired_difference(self.cells[m, *task], self.cells[base, *task], self.confidence, self.steps[task])
            for m, task in pairs
        ]
        ps = holm([math.nan if d is None else d.p for d in differences])
        among, level = sum(not math.isnan(p) for p in ps), 1 - self.confidence
        return [Comparison(m, base, task, d, p, among, level) for (m, task), d, p in zip(pairs, differences, ps, strict=True)]

    def sentences(self) -> list[str]:
        """Describe every comparison in one sentence."""
        return [comparison.sentence(self.name(comparison.column)) for comparison in self.comparisons()]

    def below_controls(self) -> list[str]:
        """Return a sentence for each control that outperforms a method, listing the columns and methods."""
        sentences = []
        for control in self.controls:
            below = []
            for task in self.tasks:
                limit = self.summary(control, task).mean
                methods = [name for name in self.rows if name not in self.controls and self.summary(name, task).mean < limit]
                if methods:
                    below.append(f"{self.name(task)} ({', '.join(methods)})")
            if below:
                sentences.append(f"Below the control {control}: {'; '.join(below)}.")
        return sentences
