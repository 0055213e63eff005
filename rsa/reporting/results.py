"""All scores of an experiment as one long table, and what its cells say."""

import json
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from rsa.params import Experiment
from rsa.reporting.statistics import Difference, Summary, paired_difference, summarize

FLOORS = ("pixels", "random")


def read_scores(folder: Path, experiment: Experiment) -> pd.DataFrame:
    """One row per method (or floor), seed, dataset and task: columns method, seed, dataset, task, top1 (percent)."""
    files = {"probe.json": experiment.dataset, **{f"transfer_{name}.json": name for name in experiment.transfer}}
    rows = []
    for method in (*FLOORS, *experiment.methods):
        for seed in experiment.seeds:
            for file, dataset in files.items():
                path = folder / method / f"s{seed}" / file
                if not path.is_file():
                    raise ValueError(f"{path} does not exist: run its stage first (`dvc repro` does)")
                for task, score in json.loads(path.read_text()).items():
                    rows.append((method, seed, dataset, task, score["top1"]))
    return pd.DataFrame(rows, columns=["method", "seed", "dataset", "task", "top1"])


class Results:
    """The table by method and by (dataset, task)."""

    def __init__(self, scores: pd.DataFrame, experiment: Experiment, confidence: float) -> None:
        self.experiment, self.confidence = experiment, confidence
        self.cells: dict[tuple[str, str, str], dict[int, float]] = {}
        for row in scores.itertuples(index=False):
            self.cells.setdefault((str(row.method), str(row.dataset), str(row.task)), {})[int(row.seed)] = float(row.top1)  # type: ignore[arg-type]
        self.tasks: list[tuple[str, str]] = list(dict.fromkeys((dataset, task) for _, dataset, task in self.cells))

    @property
    def rows(self) -> Iterable[str]:
        """Floors first, then the baseline, then the others."""
        e = self.experiment
        return [*FLOORS, e.baseline, *(method for method in e.methods if method != e.baseline)]

    def summary(self, method: str, task: tuple[str, str]) -> Summary:
        """Mean, standard deviation and n over seeds."""
        return summarize(list(self.cells[method, *task].values()))

    def difference(self, method: str, task: tuple[str, str]) -> Difference:
        """The paired difference to the baseline."""
        return paired_difference(self.cells[method, *task], self.cells[self.experiment.baseline, *task], self.confidence)

    def sentence(self, method: str, task: tuple[str, str]) -> str:
        """The comparison in plain words."""
        d, base, what = self.difference(method, task), self.experiment.baseline, f"{task[0]}, {task[1]}"
        if d.n == 1:
            return f"{what}: one seed cannot tell {method} from {base}."
        interval = f"{d.mean:+.1f} points [{d.low:+.1f}, {d.high:+.1f}], {d.n} seeds"
        if d.shown:
            return f"{what}: {method} is {'better' if d.mean > 0 else 'worse'} than {base} by {interval}."
        return f"{what}: no difference between {method} and {base} shown ({interval})."

    def below_floors(self) -> list[str]:
        """A sentence per floor that methods do not reach: they have learnt nothing that counts there."""
        sentences = []
        for floor in FLOORS:
            below = []
            for task in self.tasks:
                limit = self.summary(floor, task).mean
                methods = [name for name in self.rows if name not in FLOORS and self.summary(name, task).mean < limit]
                if methods:
                    below.append(f"{' '.join(task)} ({', '.join(methods)})")
            if below:
                sentences.append(f"Below the floor {floor}: {'; '.join(below)}.")
        return sentences
