"""The outputs of an experiment's runs: manifests, curves and representation metrics, as far as they exist."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from rsa.params.document import Document
from rsa.reporting.results import Missing

Frames = dict[str, dict[int, pd.DataFrame]]  # method -> seed -> table


class Runs(NamedTuple):
    """Outputs of the runs by method and seed; methods without outputs are absent."""

    manifests: dict[tuple[str, int], dict[str, Any]]  # run.json
    curves: Frames  # curve.csv, a row per step
    metrics: Frames  # representation.csv of the scores, a row per snapshot
    missing: list[Missing]


def read_runs(runs: Path, scores: Path, p: Document) -> Runs:
    """Read all runs of the experiment."""
    found = Runs({}, {}, {}, [])
    for method in p.trained:
        for seed in p.experiment.seeds:
            run, metrics = runs / method / f"s{seed}", scores / method / f"s{seed}" / "representation.csv"
            for path, stage in (
                (run / "run.json", "pretrain"),
                (run / "curve.csv", "pretrain"),
                (metrics, "representation_metrics"),
            ):
                if not path.is_file():
                    name = str(path.relative_to(runs.parent))
                    found.missing.append(Missing(name, "does not exist", f"dvc repro {stage}@{method}-{seed}"))
            if (run / "run.json").is_file():
                found.manifests[method, seed] = json.loads((run / "run.json").read_text())
            if (run / "curve.csv").is_file():
                found.curves.setdefault(method, {})[seed] = pd.read_csv(run / "curve.csv")
            if metrics.is_file():
                found.metrics.setdefault(method, {})[seed] = pd.read_csv(metrics)
    return found


def require_same(manifests: dict[tuple[str, int], dict[str, Any]]) -> None:
    """Raise ValueError unless all runs were made with the same versions and the same encoder."""
    first = next(iter(manifests.values()), {})
    for key in ("versions", "parameters"):
        if any(run[key] != first[key] for run in manifests.values()):
            different = {f"{method} s{seed}": run[key] for (method, seed), run in manifests.items()}
            raise ValueError(f"all runs must have the same {key} to be compared, got {different}")
