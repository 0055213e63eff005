"""The outputs of an experiment's runs: manifests, curves and representation metrics, as far as they exist."""

import io
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
    """Read all runs of the experiment; files that are missing or damaged are listed."""
    read = Runs({}, {}, {}, [])
    for method in p.trained:
        for seed in p.experiment.seeds:
            run, metrics = runs / method / f"s{seed}", scores / method / f"s{seed}" / "representation.csv"
            try:
                read.manifests[method, seed] = read_manifest(run / "run.json")
            except (OSError, ValueError) as why:
                read.missing.append(_missing(run / "run.json", runs.parent, why, f"pretrain@{method}-{seed}"))
            for path, column, tables, stage in (
                (run / "curve.csv", "step", read.curves, "pretrain"),
                (metrics, "progress", read.metrics, "representation_metrics"),
            ):
                try:
                    tables.setdefault(method, {})[seed] = read_table(path, column)
                except (OSError, ValueError) as why:
                    read.missing.append(_missing(path, runs.parent, why, f"{stage}@{method}-{seed}"))
    for tables in (read.curves, read.metrics):
        for method in [method for method, of_method in tables.items() if not of_method]:
            del tables[method]
    return read


def read_manifest(path: Path) -> dict[str, Any]:
    """Read a run.json; ValueError if it is damaged or lacks what the report needs."""
    run = json.loads(path.read_text())
    if not isinstance(run, dict) or (lacking := {"versions", "parameters", "device"} - run.keys()):
        raise ValueError(f"it has no {', '.join(sorted(lacking))}" if isinstance(run, dict) else "it is no mapping")
    return run


def read_table(path: Path, column: str) -> pd.DataFrame:
    """Read a CSV file of numbers that has `column`; ValueError if it is damaged."""
    text = path.read_text()
    table = pd.read_csv(io.StringIO(text))
    if column not in table or not text.endswith("\n"):
        raise ValueError("it is cut off" if column in table else f"it has no column {column}")
    if words := [str(name) for name in table if not pd.api.types.is_numeric_dtype(table[name])]:
        raise ValueError(f"{', '.join(words)} must hold numbers alone")
    return table


def _missing(path: Path, root: Path, why: Exception, stage: str) -> Missing:
    reason = "does not exist" if isinstance(why, FileNotFoundError) else f"is cut off or damaged: {str(why).splitlines()[0]}"
    return Missing(str(path.relative_to(root)), reason, f"dvc repro {stage}")


def differences(manifests: dict[tuple[str, int], dict[str, Any]]) -> list[str]:
    """Return a sentence for each package version, and for the size of the encoder, in which runs differ, with the runs' names."""
    sentences = []
    recorded = {
        f"{method} s{seed}": {**run["versions"], "parameters of the encoder": run["parameters"]}
        for (method, seed), run in manifests.items()
    }
    for key in dict.fromkeys(key for values in recorded.values() for key in values):
        names: dict[Any, list[str]] = {}
        for run, values in recorded.items():
            names.setdefault(values.get(key), []).append(run)
        if len(names) > 1:
            sentences.append(f"{key}: {'; '.join(f'{value} in ' + ', '.join(of) for value, of in names.items())}.")
    return sentences
