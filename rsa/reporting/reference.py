"""Published numbers beside ours, where they are comparable, and why the others are not.

reference_numbers.csv holds numbers as their sources print them, with names of datasets and backbones made uniform. `protocol`
has the settings if those of the source are known to be a preset of ours, `selection` says which epoch was reported.
"""

import csv
import re
from importlib import resources
from typing import Any, NamedTuple

from rsa.params.document import Document
from rsa.reporting.results import Results
from rsa.reporting.scores import Column
from rsa.reporting.statistics import summarize

SAME_NETWORK = {"dynamic_img_size", "img_size", "drop_path_rate"}  # arguments that do not change the architecture
BEST = "best epoch on test"
NAMES = {"imagenet": "imagenet1k", "mocov2plus": "mocov2"}


class Published(NamedTuple):
    """A row of reference_numbers.csv."""

    source: str
    dataset: str
    method: str
    backbone: str
    epochs: str
    batch: str
    metric: str
    protocol: str
    selection: str
    value: str
    note: str


class Beside(NamedTuple):
    """A published number and the column of ours that it may stand beside."""

    published: Published
    column: Column
    method: str | None  # of ours, the same one
    ours: float | None  # its mean over seeds
    best_on_test: bool  # both are the best on the test split


class NotComparable(NamedTuple):
    """A published number of our dataset, and why it does not stand beside ours."""

    published: Published
    reasons: list[str]


def reference_numbers() -> list[Published]:
    """Read all rows of reference_numbers.csv."""
    with (resources.files("rsa.reporting") / "reference_numbers.csv").open(encoding="utf-8") as file:
        return [Published(**row) for row in csv.DictReader(file)]


def described(settings: dict[str, Any]) -> str:
    """Describe the settings of a protocol in one line, as the column `protocol` of reference_numbers.csv does."""
    match settings:
        case {"classifier": "knn", "k": [k], "temperature": temperature}:
            return f"knn k={k} T={temperature:g}"
        case {
            "lr": [lr],
            "optimizer": optimizer,
            "weight_decay": decay,
            "epochs": epochs,
            "batch_size": batch,
            "schedule": schedule,
        }:
            steps = schedule["schedule"] == "steps"
            when = f"x{schedule['factor']:g} at {' and '.join(map(str, schedule['at']))}" if steps else schedule["schedule"]
            rate = f"{optimizer} lr {lr:g}{' per 256' if settings['lr_per_256'] else ''}"
            normalize = "" if settings["normalize"] == "none" else f", {settings['normalize']}"
            return f"{rate}, decay {decay:g}, {epochs} epochs of batch {batch}, {when}{normalize}"
    return ""


def known_as(name: str) -> str:
    """Normalise a name that sources write in several ways: `ImageNet-1k` and `imagenet`, `MoCo V3` and `moco_v3` become equal."""
    plain = re.sub(r"[^a-z0-9]", "", name.lower().replace("+", "plus"))
    return NAMES.get(plain, plain)


def beside_ours(
    p: Document, results: Results, settings: dict[Column, dict[str, Any]]
) -> tuple[list[Beside], list[NotComparable]]:
    """Sort the published numbers of the experiment's dataset into those beside ours and those that are not comparable.

    `settings` are those of the experiment's columns.
    """
    described_columns = {task: described(settings[task]) for task in results.tasks if task.dataset == p.experiment.dataset}
    same, not_comparable = [], []
    for row in reference_numbers():
        if known_as(row.dataset) != dataset_name(p):
            continue
        reasons = _reasons(p, row)
        columns = [task for task, text in described_columns.items() if text and text == row.protocol and task.metric == "top1"]
        if not columns:
            reasons.append(f"protocol {row.protocol or row.metric}{'' if row.protocol else ', settings unknown'}")
        elif row.selection == BEST and not any(
            (method, *task) in results.best_on_test for method in results.rows for task in columns
        ):
            reasons.append(f"{BEST}, ours is not (probe.best_on_test and linear.best_on_test would report it too)")
        if reasons:
            not_comparable.append(NotComparable(row, reasons))
        else:
            same += [_beside(p, row, task, results) for task in columns]
    ran = {known_as(p.key_of("methods", method, "method")) for method in p.trained}
    return same, sorted(not_comparable, key=lambda other: (len(other.reasons), known_as(other.published.method) not in ran))


def dataset_name(p: Document) -> str:
    """Return the canonical name of the pretraining dataset: torchvision's name for it, or its key in params.yaml."""
    return known_as(p.key_of("datasets", p.experiment.dataset, "name") or p.experiment.dataset)


def _reasons(p: Document, row: Published) -> list[str]:
    name, model = p.experiment.dataset, p.model
    reasons = []
    if not row.value:
        reasons.append("no number")
    part = [key for key in ("train_samples", "test_samples", "test_fraction") if p.key_of("datasets", name, key) is not None]
    if part:
        reasons.append(f"ours is a part of {row.dataset} ({', '.join(part)})")
    if p.pretrain.start.weights != "random":
        reasons.append(f"ours started from {p.pretrain.start.weights} weights")
    if row.backbone != model.backbone:
        reasons.append(f"backbone {row.backbone}")
    elif changed := model.backbone_args.keys() - SAME_NETWORK:
        reasons.append(f"ours is a {model.backbone} with other {', '.join(sorted(changed))}")
    if row.epochs != str(p.pretrain.epochs):
        reasons.append(f"{row.epochs} epochs" if row.epochs else "epochs not said")
    return reasons


def _beside(p: Document, row: Published, task: Column, results: Results) -> Beside:
    plain = {
        name: known_as(p.key_of("methods", name, "method"))
        for name in p.trained
        if p.key_of("methods", name, "hard_views") is None and p.key_of("methods", name, "epochs") is None
    }
    ours = next((name for name, method in plain.items() if method == known_as(row.method)), None)
    best = row.selection == BEST
    values = (results.best_on_test if best else results.cells).get((ours or "", *task), {})
    return Beside(row, task, ours, summarize(list(values.values())).mean if values else None, best)
