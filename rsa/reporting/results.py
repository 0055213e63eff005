"""All scores of an experiment as one long table, and what its cells say."""

import json
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from rsa.params import Experiment, Params
from rsa.reporting.statistics import Difference, Summary, paired_difference, summarize

FLOORS = ("pixels", "random")


def score_files(p: Params) -> dict[str, str]:
    """The score files that an encoder of this experiment has, below its folder, and the dataset of each."""
    e = p.experiment
    files = {"probe.json": e.dataset} | {f"transfer_{name}.json": name for name in e.transfer}
    files |= {f"linear_{name}_{protocol}.json": name for name in p.linear.datasets for protocol in p.linear.protocols}
    files |= {
        f"finetune_{name}_{percent}/scores.json": name for name in p.finetune.datasets for percent in p.finetune.label_percents
    }
    files |= {f"detect_{name}.json": name for name in p.detection}
    files |= {f"robustness_{name}.json": name for name in p.robustness}
    return files


def read_scores(folder: Path, p: Params) -> pd.DataFrame:
    """A row per method (or floor), seed and score: method, seed, dataset, task, protocol, metric, value, best_on_test."""
    rows = []
    for method in (*FLOORS, *p.experiment.methods):
        for seed in p.experiment.seeds:
            for file, dataset in score_files(p).items():
                path = folder / method / f"s{seed}" / file
                if not path.is_file():
                    missing = ("linear_", "finetune_") if method == "pixels" else ()
                    if method in FLOORS and file.startswith((*missing, "detect_", "robustness_")):
                        continue  # of encoders only
                    raise ValueError(f"{path} does not exist: run its stage first (`dvc repro` does)")
                for task, score in json.loads(path.read_text()).items():
                    mean = dataset in p.report.mean_per_class and "mean_per_class" in score
                    metric, value = ("mean_per_class", score["mean_per_class"]) if mean else (score["metric"], score["value"])
                    rows.append((method, seed, dataset, task, score["protocol"], metric, value, score.get("best_on_test")))
    return pd.DataFrame(rows, columns=["method", "seed", "dataset", "task", "protocol", "metric", "value", "best_on_test"])


class Results:
    """The table by method and by (dataset, task)."""

    def __init__(self, scores: pd.DataFrame, experiment: Experiment, confidence: float) -> None:
        self.experiment, self.confidence = experiment, confidence
        self.cells: dict[tuple[str, str, str], dict[int, float]] = {}
        for row in scores.itertuples(index=False):
            self.cells.setdefault((str(row.method), str(row.dataset), str(row.task)), {})[int(row.seed)] = float(row.value)  # type: ignore[arg-type]
        self.tasks: list[tuple[str, str]] = list(dict.fromkeys((dataset, task) for _, dataset, task in self.cells))

    @property
    def rows(self) -> Iterable[str]:
        """Floors first, then the baseline, then the others."""
        e = self.experiment
        return [*FLOORS, e.baseline, *(method for method in e.methods if method != e.baseline)]

    def summary(self, method: str, task: tuple[str, str]) -> Summary:
        """Mean, standard deviation and n over seeds."""
        return summarize(list(self.cells.get((method, *task), {}).values()))

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
