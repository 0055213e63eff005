"""All scores of an experiment as one long table, and the comparisons between methods that follow from it.

A column is a combination of dataset, task, protocol and metric. Scores whose settings differ from those of their column are
excluded and listed by name. Missing scores are listed with the command that makes them.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from rsa.params.document import Document
from rsa.reporting.grid import command, score_files
from rsa.reporting.numbers import signed
from rsa.reporting.stale import ENCODER, Current, StaleError
from rsa.reporting.statistics import Difference, Summary, holm, paired_difference, summarize

TABLE = ["method", "seed", "dataset", "task", "protocol", "metric", "value", "step", "best_on_test", "settings", "file"]


class Column(NamedTuple):
    """The properties that two scores must share to be comparable."""

    dataset: str
    task: str
    protocol: str
    metric: str


class Missing(NamedTuple):
    """A file that is missing, damaged or stale, which of these and why, and the command that makes it."""

    file: str
    reason: str
    command: str


class Scores(NamedTuple):
    """A table of all comparable scores, their settings by digest, and lists of missing, refused and unconverged ones."""

    table: pd.DataFrame
    settings: dict[str, Any]
    missing: list[Missing]
    refused: list[str]
    unconverged: list[str]

    def of_columns(self, key: str) -> dict[Column, str]:
        """Map each column to the value of `settings` or `file` of its first score."""
        return {Column(*row[:4]): str(row[4]) for row in self.table[[*Column._fields, key]].itertuples(index=False, name=None)}


def read_scores(folder: Path, runs: Path, p: Document) -> Scores:
    """Read every score of the experiment's methods and seeds, without files that are missing, damaged or stale.

    Raise ValueError if none is left.
    """
    rows: list[tuple[Any, ...]] = []
    settings: dict[str, Any] = {}
    missing, unconverged, current = [], [], Current(p, runs)
    for method in p.experiment.methods:
        for seed in p.experiment.seeds:
            for file, dataset in score_files(p).items():
                path = folder / method / f"s{seed}" / file
                name = str(path.relative_to(folder.parent))
                try:
                    scores = json.loads(path.read_text())
                    for score in scores.values():
                        current.require(score["origin"], runs / method / f"s{seed}" / ENCODER, method, seed, dataset)
                    for task, score in scores.items():
                        key = digest(score["settings"])
                        metric, value, step = _value(score, mean=dataset in p.report.mean_per_class)
                        numbers = (value, step, score.get("best_on_test"), key, name)
                        rows.append((method, seed, dataset, task, score["protocol"], metric, *numbers))
                        settings[key] = score["settings"]
                        if not score.get("converged", True):
                            unconverged.append(f"{name}: {task}")
                except FileNotFoundError:
                    missing.append(Missing(name, "does not exist", command(method, seed, file)))
                except StaleError as why:
                    missing.append(Missing(name, str(why), command(method, seed, file)))
                except (OSError, ValueError, TypeError, AttributeError):  # also JSON of another kind
                    missing.append(Missing(name, "is cut off or damaged", command(method, seed, file)))
                except KeyError as why:
                    missing.append(Missing(name, f"has no {why}: an older version made it", command(method, seed, file)))
    if not rows:
        unusable = [f"but {item.file} {item.reason}" for item in missing if item.reason != "does not exist"]
        got = unusable[0] if unusable else "got none"
        raise ValueError(f"{folder} must have scores of {', '.join(p.experiment.methods)}, {got}: `dvc repro` makes them")
    table, refused = of_one_setting(pd.DataFrame(rows, columns=TABLE), settings, p.experiment.baseline)
    return Scores(table, settings, missing, refused, unconverged)


def digest(settings: Any) -> str:
    """Hash the settings of a protocol: equal settings have equal digests."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def _value(score: dict[str, Any], mean: bool) -> tuple[str, float, float]:
    if mean and "mean_per_class" in score:
        return "mean_per_class", score["mean_per_class"], score["mean_per_class_step"]
    return score["metric"], score["value"], score["step"]


def of_one_setting(table: pd.DataFrame, settings: dict[str, Any], baseline: str) -> tuple[pd.DataFrame, list[str]]:
    """Keep the scores that have the settings of their column, and describe the others in sentences.

    The settings of a column are those of most of its scores; ties go to the settings of the baseline.
    """
    keep, refused = [], []
    for column, rows in table.groupby(list(Column._fields), sort=False):
        votes = Counter(rows["settings"])
        of_baseline = set(rows["settings"][rows["method"] == baseline])
        right = max(votes, key=lambda key: (votes[key], key in of_baseline))
        keep += rows.index[rows["settings"] == right].tolist()
        for row in rows[rows["settings"] != right].itertuples():
            differ = _differences(settings[str(row.settings)], settings[right])
            refused.append(f"{row.file}: {column[1]} was measured with {differ}")
    return table.loc[sorted(keep)].reset_index(drop=True), refused


def _differences(settings: dict[str, Any], usual: dict[str, Any]) -> str:
    keys = [key for key in sorted(settings.keys() | usual.keys()) if settings.get(key) != usual.get(key)]
    return "; ".join(f"{key} {settings.get(key)}, the others with {usual.get(key)}" for key in keys)


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
            return f"{where}: {pair} differ by {d.mean:+.2f} points in each of {d.n} seeds; without any spread there is no test."
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
        """Return a short name such as `digits knn`, with the protocol if it is ambiguous and the metric if it is not top-1."""
        twins = [other for other in self.tasks if other[:2] == task[:2]]
        protocol = f" under {task.protocol}" if len({other.protocol for other in twins}) > 1 else ""
        metric = f" ({task.metric.replace('_', ' ')})" if task.metric != "top1" else ""
        return f"{task.dataset} {task.task}{protocol}{metric}"

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
