"""The outputs of an experiment's runs: manifests, curves and representation metrics, as far as they exist."""

import io
import json
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from rsa.origin import Origin
from rsa.params.document import Document
from rsa.reporting.scores import Missing
from rsa.reporting.stale import ENCODER, Current, StaleError

METRICS, ORIGIN = "representation.csv", "origin."  # the latter begins its columns of text
Frames = dict[str, dict[int, pd.DataFrame]]  # method -> seed -> table


class Runs(NamedTuple):
    """Outputs of the runs by method and seed; methods without outputs are absent."""

    manifests: dict[tuple[str, int], dict[str, Any]]  # run.json
    curves: Frames  # curve.csv, a row per step
    metrics: Frames  # representation.csv of the scores, a row per snapshot
    maps: dict[str, Path]  # folders of the embedding maps of the first seed
    missing: list[Missing]


def read_runs(runs: Path, scores: Path, p: Document) -> Runs:
    """Read all runs of the experiment; files that are missing, damaged or stale are listed."""
    read, current, dataset = Runs({}, {}, {}, {}, []), Current(p, runs), p.experiment.dataset

    def leave_out(path: Path, stage: str, why: Exception) -> None:
        read.missing.append(Missing(str(path.relative_to(runs.parent)), _reason(why), f"dvc repro {stage}"))

    for method in p.trained:
        for seed in p.experiment.seeds:
            run, metrics, name = runs / method / f"s{seed}", scores / method / f"s{seed}" / METRICS, f"{method}-{seed}"
            try:
                manifest = read_manifest(run / "run.json")
                current.require_run(manifest, method)
                read.manifests[method, seed] = manifest
            except (OSError, ValueError) as why:
                leave_out(run / "run.json", f"pretrain@{name}", why)
                if isinstance(why, StaleError):
                    continue  # so is all that the run has left
            try:
                read.curves.setdefault(method, {})[seed] = read_table(run / "curve.csv", "step")
            except (OSError, ValueError) as why:
                leave_out(run / "curve.csv", f"pretrain@{name}", why)
            try:
                table, origin = read_metrics(metrics)
                current.require(origin, last_snapshot(run), method, seed, dataset)
                read.metrics.setdefault(method, {})[seed] = table
            except (OSError, ValueError) as why:
                leave_out(metrics, f"representation_metrics@{name}", why)
    for method in p.experiment.methods:
        cell = Path(method) / f"s{p.experiment.seeds[0]}"
        about = scores / cell / "embedding_map" / "about.json"
        try:
            origin = _mapping(about, {"origin"})["origin"]
            current.require(origin, runs / cell / ENCODER, method, p.experiment.seeds[0], dataset)
            read.maps[method] = about.parent
        except (OSError, ValueError) as why:
            leave_out(about, f"embedding_map@{method}", why)
    return read


def _reason(why: Exception) -> str:
    if isinstance(why, StaleError):
        return str(why)
    return "does not exist" if isinstance(why, FileNotFoundError) else f"is cut off or damaged: {str(why).splitlines()[0]}"


def read_manifest(path: Path) -> dict[str, Any]:
    """Read a run.json; ValueError if it is damaged or lacks what the report needs."""
    return _mapping(path, {"versions", "parameters", "device", "params_sha256", "index_sha256"})


def _mapping(path: Path, keys: set[str]) -> dict[str, Any]:
    """Read a JSON file that must have these keys."""
    document = json.loads(path.read_text())
    if not isinstance(document, dict):
        raise ValueError("it is no mapping")
    if lacking := keys - document.keys():
        raise ValueError(f"it has no {', '.join(sorted(lacking))}, as if an older version made it")
    return document


def read_metrics(path: Path) -> tuple[pd.DataFrame, Origin]:
    """Read a representation.csv; return its numbers, and the origin of its last row."""
    table = read_table(path, "progress", ORIGIN)
    texts = [name for name in table if str(name).startswith(ORIGIN)]
    if not texts:
        raise ValueError(f"it has no columns {ORIGIN}KEY, as if an older version made it")
    origin = {str(name).removeprefix(ORIGIN): value for name, value in table[texts].iloc[-1].dropna().items()}
    return table.drop(columns=texts), origin


def last_snapshot(run: Path) -> Path:
    """Return the last encoder that a run kept during its training."""
    return max((run / "snapshots").glob("*.safetensors"), default=run / "snapshots")


def read_table(path: Path, column: str, texts: str = "\n") -> pd.DataFrame:
    """Read a CSV file that has `column`, of numbers but for columns that begin with `texts`; ValueError if it is damaged."""
    text = path.read_text()
    table = pd.read_csv(io.StringIO(text))
    if column not in table or not text.endswith("\n"):
        raise ValueError("it is cut off" if column in table else f"it has no column {column}")
    numbers = [name for name in table if not str(name).startswith(texts)]
    if words := [str(name) for name in numbers if not pd.api.types.is_numeric_dtype(table[name])]:
        raise ValueError(f"{', '.join(words)} must hold numbers alone")
    return table


def differences(manifests: dict[tuple[str, int], dict[str, Any]]) -> list[str]:
    """Return a sentence for each package version, and for the size of the encoder, in which runs differ, with the runs' names."""
    recorded = {
        f"{method} s{seed}": {**run["versions"], "parameters of the encoder": run["parameters"]}
        for (method, seed), run in manifests.items()
    }
    return [
        f"{key}: {'; '.join(f'{value} in ' + ', '.join(runs) for value, runs in runs_by_value.items())}."
        for key, runs_by_value in disagreements(recorded).items()
    ]


def disagreements(recorded: dict[str, dict[str, Any]]) -> dict[str, dict[Any, list[str]]]:
    """Return, for every key that runs have recorded with different values, the names of the runs with each value."""
    by_key: dict[str, dict[Any, list[str]]] = {}
    for key in dict.fromkeys(key for values in recorded.values() for key in values):
        runs: dict[Any, list[str]] = {}
        for run, values in recorded.items():
            runs.setdefault(values.get(key), []).append(run)
        if len(runs) > 1:
            by_key[key] = runs
    return by_key
