"""Scores, curves and manifests of an experiment that was never run: numbers chosen by hand."""

import json
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from PIL import Image

from pipeline.code import used
from rsa.origin import Origin, of_sections, of_values
from rsa.params.document import Document, Params
from rsa.params.load import load
from tests.conftest import TINY

TOP1 = {  # (method, seed) -> linear probe, others follow from it
    ("pixels", 0): 50.0,
    ("pixels", 1): 50.0,
    ("random", 0): 60.0,
    ("random", 1): 62.0,
    ("byol", 0): 80.0,
    ("byol", 1): 81.0,
    ("rsa", 0): 82.0,
    ("rsa", 1): 83.1,
}
COSTS: dict[str, Any] = {  # RSA encodes two more views
    "byol": {"images_seen": 352, "forward_passes": 4.0, "flops_per_image": 2e9},
    "rsa": {"images_seen": 352, "forward_passes": 6.0, "flops_per_image": 3e9},
}
RUNTIME = {"device": "a processor", "nodes": 1, "processes": 1, "threads": 1, "compile": False, "on_collapse": "stop"}
KNN_LESS, TRANSFER_LESS = 5.0, 20.0  # points


def as_reported(p: Params) -> Document:
    """As the stage `report` reads it: what stage `code` writes of it, with datasets and methods as plain mappings."""
    return Document.model_validate(used(p))


SETTINGS = {
    "knn": {"classifier": "knn", "k": [5], "temperature": 0.07},
    "sklearn": {"classifier": "logistic_regression", "C": [0.001, 0.1], "max_iter": 300},
    "few-shot": {"labels_per_class": 1, "draws": 2},
}


ENCODER = b"an encoder"


def pretraining(p: Document, method: str) -> str:
    """The digest of what the encoder was trained with."""
    return of_values({"views": p.views, "model": p.model, "pretrain": p.pretrain, f"methods.{method}": p.methods[method]})


def origin(p: Document, method: str) -> Origin:
    """What a result was made from."""
    encoder = {"encoder": sha256(ENCODER).hexdigest(), "pretraining_images": "d" * 12}
    if method in p.trained:
        encoder["pretraining"] = pretraining(p, method)
    images = {"train_images": "d" * 12, "test_images": "e" * 12}
    return of_sections({"model": p.model, "evaluation": p.evaluation, "probe": p.probe}) | encoder | images


def write_encoder(run: Path) -> None:
    (run / "snapshots").mkdir(parents=True, exist_ok=True)
    for file in ("encoder.safetensors", "snapshots/00000030.safetensors"):
        (run / file).write_bytes(ENCODER)


def _score(value: float, protocol: str, made_from: Origin, **details: Any) -> dict[str, Any]:
    return {
        "metric": "top1",
        "value": value,
        "mean_per_class": value - 1,
        "step": 0.0,
        "mean_per_class_step": 0.0,
        **details,
        "protocol": protocol,
        "settings": SETTINGS[protocol],
        "origin": made_from,
    }


def edit_score(file: Path, task: str, **changes: Any) -> None:
    """Another value, protocol, ... of one score in a file."""
    document = json.loads(file.read_text())
    document[task] |= changes
    file.write_text(json.dumps(document))


def write_scores(folder: Path) -> Path:
    """scores/: every task of tiny.yaml; and the encoders in runs/ that they are of."""
    for (method, seed), top1 in TOP1.items():
        write_encoder(folder.parent / "runs" / method / f"s{seed}")
        score = partial(_score, made_from=origin(load(TINY), method))
        run = folder / method / f"s{seed}"
        run.mkdir(parents=True)
        linear = score(top1, "sklearn", C=1.0, converged=True, held_out_top1={})
        (run / "probe.json").write_text(json.dumps({"knn": score(top1 - KNN_LESS, "knn"), "sklearn": linear}))
        transfer = {
            "knn": score(top1 - KNN_LESS - TRANSFER_LESS, "knn"),
            "sklearn": score(top1 - TRANSFER_LESS, "sklearn", converged=True),
        }
        transfer |= {"1_shot": score(30.0, "few-shot"), "2_shot": score(40.0, "few-shot")}
        (run / "transfer_photo_tiles.json").write_text(json.dumps(transfer))
    return folder


def manifest(method: str, seed: int, **changes: Any) -> dict[str, Any]:
    """run.json of a method that is trained."""
    views = {"byol": ["aggressive 1", "aggressive 2"], "rsa": ["weak 1", "weak 2", "aggressive 1", "aggressive 2"]}[method]
    return control_manifest(method, seed) | {
        "collapsed": False,
        "views": views,
        "health": {"embedding_std": 0.9, "effective_rank": 40.5},
        "cost": COSTS[method] | {"flops": 352 * COSTS[method]["flops_per_image"]},
        **changes,
    }


def control_manifest(method: str, seed: int) -> dict[str, Any]:
    """run.json as a control has it: what is said of every run."""
    return {
        "method": method,
        "seed": seed,
        "parameters": 12345,
        "tensors": 62,
        "device": "cpu",
        "processes": 1,
        "runtime": RUNTIME,
        "versions": {"python": "3.13.0", "torch": "9.9.9"},
        "start": {"weights": "random"},
        "params_sha256": pretraining(load(TINY), method),
        "index_sha256": "dddddddddddd",
        "code_sha256": "cccccccccccc",
    }


def write_runs(folder: Path, p: Params) -> Path:
    """runs/: curve, picture of the views and manifest; of a control what stage `pretrain` leaves."""
    for control in p.controls:
        for seed in p.experiment.seeds:
            run = folder / control / f"s{seed}"
            run.mkdir(parents=True, exist_ok=True)
            (run / "curve.csv").write_text("step\n")
            (run / "run.json").write_text(json.dumps(control_manifest(control, seed) | {"parameters": 0}))
    for method in p.trained:
        beta, value = (",beta,weak,aggressive", ",0.2,1.0,1.5") if method == "rsa" else ("", "")
        for seed in p.experiment.seeds:
            run = folder / method / f"s{seed}"
            run.mkdir(parents=True, exist_ok=True)
            health = ["0.9,40.5,-3.1" if step % 10 == 0 else ",," for step in range(1, 31)]
            rows = [f"{step},0.1,0.99{value},{4 / step + seed},{health[step - 1]}" for step in range(1, 31)]
            columns = f"step,lr,tau{beta},loss,embedding_std,effective_rank,uniformity"
            (run / "curve.csv").write_text("\n".join([columns, *rows]) + "\n")
            Image.new("RGB", (128, 32), (200, 30, 30)).save(run / "views.png")
            (run / "run.json").write_text(json.dumps(manifest(method, seed)))
    return folder


def edit_run(file: Path, **changes: Any) -> None:
    """Other values in a run.json."""
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def write_quality(folder: Path, p: Params) -> None:
    """representation.csv of every run: the shift falls from 50 to 10 % (weak: 20 to 5 %), a point more in seed 1.

    A control has a single snapshot.
    """
    columns = "progress,rankme,lidar,alpha,alignment,uniformity,shift_weak,shift_aggressive"
    for method in p.experiment.methods:
        for seed in p.experiment.seeds:
            rows = [f"0.0,5.0,3.0,1.5,0.2,-1.0,0.2,{0.5 + seed / 100}", f"1.0,20.0,9.0,1.1,0.1,-3.0,0.05,{0.1 + seed / 100}"]
            rows = rows[: 1 if method in p.controls else None]
            made_from = origin(p, method)
            lines = [",".join([columns, *(f"origin.{key}" for key in made_from)])]
            lines += [",".join([row, *made_from.values()]) for row in rows]
            (folder / method / f"s{seed}" / "representation.csv").write_text("\n".join(lines) + "\n")
        write_map(folder / method / f"s{p.experiment.seeds[0]}" / "embedding_map", origin(p, method))


def write_map(folder: Path, made_from: Origin) -> None:
    """Four test samples of two classes."""
    folder.mkdir()
    (folder / "points.csv").write_text(
        "sample,label,pca_x,pca_y,tsne_x,tsne_y\n" + "".join(f"{n},{n % 2},{n},1,2,{n}\n" for n in range(4))
    )
    (folder / "confusion.csv").write_text("truth,predicted,count\n0,0,2\n1,1,2\n")
    about = {"samples": 4, "test_samples": 4, "protocol": "knn", "origin": made_from}
    (folder / "about.json").write_text(json.dumps(about))
