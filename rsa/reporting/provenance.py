"""Provenance and health of every run: one row per run, from its run.json and its scores."""

import math
from typing import Any, NamedTuple

from rsa.reporting.numbers import MISSING, number
from rsa.reporting.results import Results
from rsa.reporting.runs import disagreements
from rsa.reporting.scores import digest


class RunProvenance(NamedTuple):
    """Provenance of one run; `–` stands for values that its run.json does not record."""

    method: str
    seed: int
    start: str  # the initial weights of the encoder
    encoder: str  # number of tensors written; stages that load the encoder require exactly these
    health: str  # of the embeddings at the end
    collapsed: bool | None
    controls: dict[str, str]  # control -> number of columns in which the run scores higher
    hashes: dict[str, str]  # params, data, code, environment
    processes: str


def run_provenance(manifests: dict[tuple[str, int], dict[str, Any]], results: Results) -> list[RunProvenance]:
    """Return the provenance of every run that has a run.json."""
    rows = []
    for (method, seed), run in manifests.items():
        environment = digest({key: run[key] for key in ("versions", "device")})
        hashes = {"params": run.get("params_sha256"), "data": run.get("index_sha256"), "code": run.get("code_sha256")}
        health = run.get("health", {})
        rows.append(
            RunProvenance(
                method=method,
                seed=seed,
                start=started(run.get("start", {})),
                encoder=f"{run['tensors']} tensors" if "tensors" in run else MISSING,
                health=", ".join(f"{name.replace('_', ' ')} {number(value)}" for name, value in health.items()) or MISSING,
                collapsed=run.get("collapsed"),
                controls={control: passed(method, seed, control, results) for control in results.controls},
                hashes={name: value[:8] if value else MISSING for name, value in {**hashes, "environment": environment}.items()},
                processes=f"{run.get('processes', 1)} x {run['device']}",
            )
        )
    return rows


def started(start: dict[str, Any]) -> str:
    """Describe the initial weights: `random`, or the numbers of loaded and random tensors and a prefix of the file's hash."""
    if "loaded" not in start:
        return str(start.get("weights", MISSING))
    left = f", {len(start['left_random'])} left random" if start["left_random"] else ""
    return f"{start['weights']}: {len(start['loaded'])} tensors loaded{left}, `{start['sha256'][:8]}`"


def passed(method: str, seed: int, control: str, results: Results) -> str:
    """Count the columns in which the run scores above the control's mean, as `5 of 6`."""
    limits = {task: results.summary(control, task).mean for task in results.tasks}
    scores = {task: results.cells[method, *task].get(seed) for task in results.tasks}
    both = [(score, limits[task]) for task, score in scores.items() if score is not None and not math.isnan(limits[task])]
    return f"{sum(score > limit for score, limit in both)} of {len(both)}"


def runtime_differences(manifests: dict[tuple[str, int], dict[str, Any]]) -> list[str]:
    """Return a sentence for each runtime setting in which runs differ, with the runs that had each value."""
    runtimes = {f"{method} s{seed}": run.get("runtime", {}) for (method, seed), run in manifests.items()}
    return [
        f"{key} was {'; '.join(f'{value} in {_listed(runs)}' for value, runs in runs_by_value.items())}."
        for key, runs_by_value in sorted(disagreements(runtimes).items())
    ]


def _listed(names: list[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
