"""The figures of a report in order, with their captions. Figures without data are omitted."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from rsa.params.document import Document
from rsa.reporting.figures.features import draw_confusion, draw_maps
from rsa.reporting.figures.representation_metrics import METRICS, draw_representation_metrics, draw_shift
from rsa.reporting.figures.scores import draw_cost, draw_scores
from rsa.reporting.figures.style import SMOOTH, Curves
from rsa.reporting.figures.training import HEALTH, ONLINE, SCHEDULES, draw_health, draw_losses, draw_online, draw_schedules
from rsa.reporting.figures.views import draw_choices, draw_selection, draw_views
from rsa.reporting.runs import Runs

SCALES = ((1e18, "10¹⁸ "), (1e15, "10¹⁵ "), (1e12, "10¹² "), (1e9, "10⁹ "))

Manifests = dict[str, dict[int, dict[str, Any]]]  # method -> seed -> run.json


@dataclass(frozen=True)
class Figure:
    """A figure's file with its alternative text and caption."""

    section: str  # scores | cost | training | representation | hard views | features | views
    file: str
    alt: str
    caption: str


def draw_figures(p: Document, table: pd.DataFrame, all_runs: Runs, runs: Path, folder: Path) -> list[Figure]:
    """Draw all figures with data into `folder`: of the `table` of scores, and of `all_runs`, whose pictures are in `runs`."""
    e = p.experiment
    methods = [e.baseline, *(method for method in p.trained if method != e.baseline)]
    curves = {method: all_runs.curves.get(method, {}) for method in methods}  # all methods: their places decide their colours
    metrics = {method: all_runs.metrics.get(method, {}) for method in methods}
    manifests: Manifests = {}
    for method in methods:
        if of_method := {seed: run for (name, seed), run in all_runs.manifests.items() if name == method}:
            manifests[method] = of_method
    return [
        *_of_scores(table, manifests, p.controls, methods, e.dataset, folder),
        *_of_training(curves, folder),
        *_of_metrics(metrics, curves, folder),
        *_of_hard_views(curves, manifests, runs, folder),
        *_of_features(all_runs.maps, [*p.controls, *methods], e.seeds[0], folder),
        *_of_views(manifests, runs, folder),
    ]


def _of_scores(
    table: pd.DataFrame, manifests: Manifests, controls: list[str], methods: list[str], dataset: str, folder: Path
) -> list[Figure]:
    drawn = []
    if len(table):
        draw_scores(table, controls, methods, folder / "scores.svg")
        caption = (
            "A point per seed, a bar and its number for the mean over seeds; grey lines join the same seed of all "
            "methods, dotted lines continue the controls."
        )
        drawn.append(Figure("scores", "scores.svg", f"Scores of every seed: {_listed(methods)}", caption))
    costs, unit = _costs(manifests)
    compared = table[table["method"].isin(list(costs)) & (table["dataset"] == dataset)]
    if len(compared) and costs:
        draw_cost(compared, costs, methods, unit, folder / "compute.svg")
        caption = (
            f"Score on {dataset} against {unit} of pretraining, scoring of hard views included: "
            "a small point per seed, a large one for the mean."
        )
        drawn.append(Figure("cost", "compute.svg", f"Scores of {_listed(costs)} against {unit}", caption))
    return drawn


def _costs(manifests: Manifests) -> tuple[dict[str, dict[int, float]], str]:
    """Return the FLOPs of every run that recorded them, in a unit that keeps numbers short."""
    flops = {m: {seed: run["cost"]["flops"] for seed, run in runs.items() if "cost" in run} for m, runs in manifests.items()}
    flops = {method: runs for method, runs in flops.items() if runs}
    largest = max((cost for runs in flops.values() for cost in runs.values()), default=0.0)
    scale, name = next(((scale, name) for scale, name in SCALES if largest >= scale), (1.0, ""))
    return {method: {seed: cost / scale for seed, cost in runs.items()} for method, runs in flops.items()}, f"{name}FLOPs"


def _of_training(curves: Curves, folder: Path) -> list[Figure]:
    if not _any(curves, ("loss",)):
        return []
    draw_losses(curves, folder / "loss.svg")
    what = f"mean over seeds of the mean of {SMOOTH} steps, with the range from the lowest to the highest seed"
    drawn = [Figure("training", "loss.svg", f"Loss of {_having(curves)} over training", f"Loss: {what}.")]
    if _any(curves, SCHEDULES):
        draw_schedules(curves, folder / "schedules.svg")
        caption = "Learning rate, τ and β as the runs recorded them; where methods have the same, the lines lie on each other."
        drawn.append(Figure("training", "schedules.svg", "Schedules of learning rate, tau and beta", caption))
    if _any(curves, HEALTH):
        draw_health(curves, folder / "health.svg")
        caption = "Do the embeddings still tell samples apart? Standard deviation 0 or effective rank 1 would be a collapse."
        drawn.append(Figure("training", "health.svg", "Spread of the embeddings over training", caption))
    if _any(curves, ONLINE):
        draw_online(curves, folder / "online.svg")
        caption = (
            "Online probe: accuracy of classifiers of the encoder while it was trained, on training images whose labels were "
            "held out. It is for watching runs and is no score: nothing of the test split is in it, and no table has it."
        )
        drawn.append(Figure("training", "online.svg", f"Online probe of {_having(curves)} over training", caption))
    return drawn


def _of_metrics(metrics: Curves, curves: Curves, folder: Path) -> list[Figure]:
    drawn = []
    if _any(metrics, METRICS):
        draw_representation_metrics(metrics, folder / "representation.svg")
        caption = "Metrics of the representation without labels, at every snapshot: mean and range over seeds."
        drawn.append(
            Figure(
                "representation",
                "representation.svg",
                f"Metrics of the representations of {_having(metrics)}",
                caption,
            )
        )
    if _any(metrics, ("shift_aggressive",)) or _any(curves, ("aggressive", "beta")):
        draw_shift(metrics, curves, folder / "shift.svg")
        caption = (
            "Semantic shift: the share of views whose nearest weak view of another crop has another class. Gap: the loss of "
            "aggressive pairs less that of weak pairs, both before β weighs them. Mean and range over seeds."
        )
        drawn.append(Figure("representation", "shift.svg", "Semantic shift, gap of the losses, and beta over training", caption))
    return drawn


def _of_hard_views(curves: Curves, manifests: Manifests, runs: Path, folder: Path) -> list[Figure]:
    drawn = []
    if _any(curves, ("score",)):
        draw_selection(curves, folder / "hard_views.svg")
        caption = "What was chosen, against all candidates: harder pairs overlap less and differ more in colour. Mean and range."
        drawn.append(Figure("hard views", "hard_views.svg", "Overlap, colour distance and loss of the views chosen", caption))
    for method, of_method in manifests.items():
        seed, manifest = next(iter(of_method.items()))
        picture = runs / method / f"s{seed}" / "views.png"
        if manifest.get("hard_views") and picture.is_file():
            file = f"choices_{method}.svg"
            draw_choices(picture, manifest["views"], manifest["hard_views"], folder / file)
            caption = (
                f"{method}: what the trained network of seed {seed} chooses of the first batch's candidates (framed) and what it "
                "refuses (pale); a column per image."
            )
            drawn.append(Figure("hard views", file, f"Views chosen and refused by {method}", caption))
    return drawn


def _of_features(map_folders: dict[str, Path], methods: list[str], seed: int, folder: Path) -> list[Figure]:
    drawn = []
    folders = {method: map_folders[method] for method in methods if method in map_folders}
    maps = {method: pd.read_csv(where / "points.csv") for method, where in folders.items()}
    confusions = {method: pd.read_csv(where / "confusion.csv") for method, where in folders.items()}
    confusions = {method: table for method, table in confusions.items() if len(table)}
    about = {method: json.loads((where / "about.json").read_text()) for method, where in folders.items()}
    if maps:
        draw_maps(maps, folder / "embedding_map.svg")
        shown = max(one["samples"] for one in about.values())
        caption = (
            f"Frozen features of {shown:,} test samples in two dimensions, seed {seed}; colours and numbers are classes. "
            "t-SNE shows who is near whom; distances between groups and their sizes mean nothing."
        )
        drawn.append(Figure("features", "embedding_map.svg", f"Features of {_listed(maps)} by PCA and t-SNE", caption))
    if confusions:
        draw_confusion(confusions, folder / "confusion.svg")
        protocols = _listed(dict.fromkeys(one["protocol"] for one in about.values()))
        caption = f"Of each class, percent of the test samples taken for each class by {protocols}; seed {seed}."
        drawn.append(Figure("features", "confusion.svg", f"Confusion matrices of {_listed(confusions)}", caption))
    return drawn


def _of_views(manifests: Manifests, runs: Path, folder: Path) -> list[Figure]:
    drawn = []
    for method, of_method in manifests.items():
        seed, manifest = next(iter(of_method.items()))
        picture = runs / method / f"s{seed}" / "views.png"
        if picture.is_file() and not manifest.get("hard_views"):  # its candidates are in another figure
            draw_views(picture, manifest["views"], folder / f"views_{method}.svg")
            caption = f"{method}: what it saw in the first batch of seed {seed}; a column per image, a row per view."
            drawn.append(Figure("views", f"views_{method}.svg", f"Augmented views of {method}", caption))
    return drawn


def _any(recorded: Curves, names: Any) -> bool:
    return any(name in run for runs in recorded.values() for run in runs.values() for name in names)


def _having(recorded: Curves) -> str:
    return _listed(method for method, runs in recorded.items() if runs)


def _listed(names: Any) -> str:
    return ", ".join(names)
