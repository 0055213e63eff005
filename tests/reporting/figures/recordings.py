"""Everything that figures are drawn from, of an experiment that was never run: numbers chosen by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from rsa.origin import Origin
from rsa.params.document import Document, Params
from tests.reporting.experiment import as_reported, origin, pretraining, write_encoder

METHODS = ["byol", "rsa", "rsa_hard", "simsiam", "byol_hard", "barlow_twins", "moco_v3_on_long_name", "dino"]
STEPS, SAMPLES, SIDE = 600, 8, 16
VIEWS = {False: ["crop 1, coloured", "crop 2, coloured"], True: [f"crop {i}, coloured" for i in (1, 2, 3, 4)]}


def experiment(tiny: Params, methods: list[str], seeds: list[int]) -> Document:
    """tiny.yaml with the controls, other methods and seeds; what the methods are does not matter here."""
    every = [*tiny.controls, *methods]
    e = tiny.experiment.model_copy(update={"methods": every, "baseline": methods[0], "seeds": seeds})
    sections = {name: tiny.methods.get(name, tiny.methods["byol"]) for name in every}
    return as_reported(tiny.model_copy(update={"experiment": e, "methods": sections}))


def score_table(methods: list[str], seeds: list[int], tasks: list[tuple[str, str]]) -> pd.DataFrame:
    """As rsa.reporting.results.read_scores gives it: 50, 55, 60 ... points, and the seed."""
    columns = ["method", "seed", "dataset", "task", "protocol", "metric", "value", "step", "best_on_test"]
    rows = [
        (name, seed, dataset, task, task, "top1", 50.0 + 5 * place + seed, 0.0, None)
        for dataset, task in tasks
        for place, name in enumerate(["pixels", "random", *methods])
        for seed in seeds
    ]
    return pd.DataFrame(rows, columns=columns)


def curve(method: str, place: int, seed: int) -> pd.DataFrame:
    step = np.arange(1, STEPS + 1)
    fall = (1 + np.cos(np.pi * step / STEPS)) / 2
    loss = 2 * np.exp(-step / 200) + 0.1 * place + 0.05 * seed
    table = pd.DataFrame({"step": step, "lr": 0.2 * fall, "tau": 1 - 0.03 * fall, "loss": loss})
    if method.startswith("rsa"):
        table = table.assign(beta=0.4 * fall, weak=loss - 0.1, aggressive=loss + 0.3)
    now_and_then = {"embedding_std": 0.9, "effective_rank": 30.0, "uniformity": -3.0}
    if "hard" in method:
        table = table.assign(score=loss + 0.2, score_all=loss, plain_rank=3.0)
        now_and_then |= {"iou": 0.3, "iou_all": 0.45, "color": 0.5, "color_all": 0.4}
    for name, value in now_and_then.items():
        table[name] = np.where(step % 25 == 0, value + 0.05 * place, np.nan)
    table["online_knn"] = np.where(step % 100 == 0, 50 + step / 30, np.nan)
    table["online_linear"] = np.where(step % 100 == 0, 60 + step / 30, np.nan)
    return table


def metrics(place: int, seed: int) -> pd.DataFrame:
    progress = np.array([0, 0.125, 0.25, 0.5, 0.75, 1])
    more = 0.02 * place + 0.01 * seed
    return pd.DataFrame({
        "progress": progress, "step": (progress * STEPS).round(), "rankme": 10 + 20 * progress + place,
        "lidar": 5 + 10 * progress, "alpha": 1.5 - 0.5 * progress,
        "alignment": 1 - 0.5 * progress + more, "uniformity": -1 - 2 * progress,
        "shift_weak": 0.3 - 0.2 * progress, "shift_aggressive": 0.5 - 0.3 * progress + more,
    })  # fmt: skip


def write_feature_map(folder: Path, made_from: Origin, classes: int, count: int = 400) -> None:
    random = np.random.default_rng(classes)
    label = random.integers(0, classes, count)
    points = random.normal(size=(classes, 4))[label] * 4 + random.normal(size=(count, 4))
    folder.mkdir(parents=True)
    axes = dict(zip(("pca_x", "pca_y", "tsne_x", "tsne_y"), points.T, strict=True))
    pd.DataFrame({"sample": range(count), "label": label, **axes}).to_csv(folder / "points.csv", index=False)
    predicted = np.where(random.random(count) < 0.8, label, random.integers(0, classes, count))
    table = pd.DataFrame({"truth": label, "predicted": predicted}).value_counts(sort=False).reset_index()
    table.to_csv(folder / "confusion.csv", index=False)
    (folder / "about.json").write_text(
        json.dumps({"samples": count, "test_samples": count, "protocol": "knn", "origin": made_from})
    )


def manifest(p: Document, method: str, seed: int) -> dict[str, Any]:
    """run.json."""
    hard = "hard" in method
    selection = {"rows": [[0, 2]] * 4 + [[1, 3]] * 4, "score": [3.25] * 8, "score_all": [2.5] * 8}
    cost = {"images_seen": 64 * STEPS, "forward_passes": 4.0, "flops_per_image": 1e9, "flops": (2e13 if hard else 1e13) + seed}
    described = {"method": method, "seed": seed, "views": VIEWS[hard], "cost": cost}
    described |= {"versions": {}, "parameters": 7, "device": "cpu"}
    described |= {"params_sha256": pretraining(p, method), "index_sha256": "d" * 12}
    return described | {"hard_views": selection if hard else None}


def write_everything(root: Path, p: Document, classes: int = 10) -> None:
    """runs/ and scores/ with all that a figure may be drawn from."""
    for method in p.experiment.methods:
        trained = method in p.trained
        place = p.trained.index(method) if trained else 0
        for seed in p.experiment.seeds:
            run, scores = (root / name / method / f"s{seed}" for name in ("runs", "scores"))
            run.mkdir(parents=True)
            scores.mkdir(parents=True)
            curve(method, place, seed if trained else 0).head(STEPS if trained else 0).to_csv(run / "curve.csv", index=False)
            described = manifest(p, method, seed) if trained else {"method": method, "seed": seed}
            (run / "run.json").write_text(json.dumps(described))
            rows = len(described.get("views", VIEWS[False]))
            pixels = np.random.default_rng(place).integers(0, 256, (rows * SIDE, SAMPLES * SIDE, 3), np.uint8)
            Image.fromarray(pixels).save(run / "views.png")
            write_encoder(run)
            made_from = {f"origin.{key}": value for key, value in origin(p, method).items()}
            metrics(place, seed).assign(**made_from).head(None if trained else 1).to_csv(
                scores / "representation.csv", index=False
            )
        write_feature_map(root / "scores" / method / f"s{p.experiment.seeds[0]}" / "embedding_map", origin(p, method), classes)
