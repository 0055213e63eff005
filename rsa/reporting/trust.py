"""Why a run can be believed: one row per run, from its run.json and its scores."""

import math
from collections import Counter
from typing import Any, NamedTuple

from rsa.reporting.results import Results, digest


class Trust(NamedTuple):
    """Of one run; `-` stands for what its run.json does not say."""

    method: str
    seed: int
    start: str  # what the encoder's weights were before training
    encoder: str  # tensors written; a stage that loads them refuses any other
    health: str  # of the embeddings at the end
    collapsed: bool | None
    controls: dict[str, str]  # control -> in how many columns the run lies above it
    hashes: dict[str, str]  # params, data, code, environment
    processes: str


def trust(manifests: dict[tuple[str, int], dict[str, Any]], results: Results) -> list[Trust]:
    """Every run of which run.json is there."""
    rows = []
    for (method, seed), run in manifests.items():
        environment = digest({key: run[key] for key in ("versions", "device")})
        hashes = {"params": run.get("params_sha256"), "data": run.get("index_sha256"), "code": run.get("code_sha256")}
        health = run.get("health", {})
        rows.append(
            Trust(
                method=method,
                seed=seed,
                start=started(run.get("start", {})),
                encoder=f"{run['tensors']} tensors" if "tensors" in run else "-",
                health=", ".join(f"{name.replace('_', ' ')} {value:.2f}" for name, value in health.items()) or "-",
                collapsed=run.get("collapsed"),
                controls={control: passed(method, seed, control, results) for control in results.controls},
                hashes={name: value[:8] if value else "-" for name, value in {**hashes, "environment": environment}.items()},
                processes=f"{run.get('processes', 1)} x {run['device']}",
            )
        )
    return rows


def started(start: dict[str, Any]) -> str:
    """`random`, or how many tensors were loaded, how many were not, and the first digits of their hash."""
    if "loaded" not in start:
        return str(start.get("weights", "-"))
    left = f", {len(start['left_random'])} left random" if start["left_random"] else ""
    return f"{start['weights']}: {len(start['loaded'])} tensors loaded{left}, `{start['sha256'][:8]}`"


def passed(method: str, seed: int, control: str, results: Results) -> str:
    """`5 of 6`: in how many columns the run's score lies above the control's mean."""
    limits = {task: results.summary(control, task).mean for task in results.tasks}
    scores = {task: results.cells[method, *task].get(seed) for task in results.tasks}
    both = [(score, limits[task]) for task, score in scores.items() if score is not None and not math.isnan(limits[task])]
    return f"{sum(score > limit for score, limit in both)} of {len(both)}"


def runtime_differences(manifests: dict[tuple[str, int], dict[str, Any]]) -> list[str]:
    """A sentence for each setting of the runtime in which some runs differ from most of the others."""
    sentences = []
    runtimes = {f"{method} s{seed}": run.get("runtime", {}) for (method, seed), run in manifests.items()}
    for key in sorted({key for runtime in runtimes.values() for key in runtime}):
        values = {run: runtime.get(key) for run, runtime in runtimes.items()}
        usual, _ = Counter(values.values()).most_common(1)[0]
        others = [f"{run} ({value})" for run, value in values.items() if value != usual]
        if others:
            sentences.append(f"{key} was {usual} in most runs, but not in {', '.join(others)}.")
    return sentences
