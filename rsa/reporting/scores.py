"""All scores of an experiment as one long table.

A column is a combination of dataset, task, protocol and metric. Scores whose settings differ from those of their column are
excluded and listed by name. Missing scores are listed with the command that makes them.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from rsa.params.document import Document
from rsa.reporting.grid import command, score_files
from rsa.reporting.stale import ENCODER, Current, StaleError

UNREADABLE = (OSError, ValueError, TypeError, AttributeError, KeyError)  # among them: JSON of another kind


class Column(NamedTuple):
    """The properties that two scores must share to be comparable."""

    dataset: str
    task: str
    protocol: str
    metric: str


class Score(NamedTuple):
    """A row of the table: the score of one run in one column."""

    method: str
    seed: int
    dataset: str
    task: str
    protocol: str
    metric: str
    value: float
    step: float  # of which values are multiples
    best_on_test: float | None  # the best value of all hyperparameters on the test split, where it was measured
    settings: str  # the digest of the protocol's settings
    file: str


TABLE = list(Score._fields)


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
    rows: list[Score] = []
    settings: dict[str, Any] = {}
    missing, unconverged, current = [], [], Current(p, runs)
    for method, seed, (file, dataset) in product(p.experiment.methods, p.experiment.seeds, score_files(p).items()):
        path = folder / method / f"s{seed}" / file
        name = str(path.relative_to(folder.parent))
        try:
            found = json.loads(path.read_text())
            for score in found.values():
                current.require(score["origin"], runs / method / f"s{seed}" / ENCODER, method, seed, dataset)
            mean = dataset in p.report.mean_per_class
            rows += [_row(score, mean, method, seed, dataset, task, name) for task, score in found.items()]
        except UNREADABLE as error:
            missing.append(Missing(name, _reason(error), command(method, seed, file)))
            continue
        settings |= {digest(score["settings"]): score["settings"] for score in found.values()}
        unconverged += [f"{name}: {task}" for task, score in found.items() if not score.get("converged", True)]
    if not rows:
        unusable = [f"but {item.file} {item.reason}" for item in missing if item.reason != "does not exist"]
        got = unusable[0] if unusable else "got none"
        raise ValueError(f"{folder} must have scores of {', '.join(p.experiment.methods)}, {got}: `dvc repro` makes them")
    table, refused = of_one_setting(pd.DataFrame(rows, columns=TABLE), settings, p.experiment.baseline)
    return Scores(table, settings, missing, refused, unconverged)


def _row(score: dict[str, Any], mean: bool, method: str, seed: int, dataset: str, task: str, file: str) -> Score:
    metric, value, step = score["metric"], score["value"], score["step"]
    if mean and "mean_per_class" in score:
        metric, value, step = "mean_per_class", score["mean_per_class"], score["mean_per_class_step"]
    best, settings = score.get("best_on_test"), digest(score["settings"])
    return Score(method, seed, dataset, task, score["protocol"], metric, value, step, best, settings, file)


def _reason(error: Exception) -> str:
    match error:
        case FileNotFoundError():
            return "does not exist"
        case StaleError():
            return str(error)
        case KeyError():
            return f"has no {error}: an older version made it"
    return "is cut off or damaged"


def digest(settings: Any) -> str:
    """Hash the settings of a protocol: equal settings have equal digests."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def column_name(column: Column, columns: Iterable[Column]) -> str:
    """Return a short name such as `digits knn`, with the protocol if it is ambiguous and the metric if it is not top-1."""
    protocols = {other.protocol for other in columns if other[:2] == column[:2]}
    protocol = f" under {column.protocol}" if len(protocols) > 1 else ""
    metric = f" ({column.metric.replace('_', ' ')})" if column.metric != "top1" else ""
    return f"{column.dataset} {column.task}{protocol}{metric}"


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
