"""Scores, curves and manifests of an experiment that was never run: numbers chosen by hand."""

import json
from pathlib import Path
from typing import Any

from PIL import Image

from rsa.params import Params

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
KNN_LESS, TRANSFER_LESS = 5.0, 20.0  # points


def score(value: float, protocol: str, **details: Any) -> dict[str, Any]:
    return {"metric": "top1", "value": value, "mean_per_class": value - 1, **details, "protocol": protocol, "settings": {}}


def write_scores(folder: Path) -> Path:
    """scores/: every task of tiny.yaml."""
    for (method, seed), top1 in TOP1.items():
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
    """run.json."""
    versions = {"python": "3.13.0", "torch": "9.9.9"}
    views = {"byol": ["aggressive 1", "aggressive 2"], "rsa": ["weak 1", "weak 2", "aggressive 1", "aggressive 2"]}[method]
    return {
        "method": method,
        "seed": seed,
        "parameters": 12345,
        "device": "cpu",
        "collapsed": False,
        "views": views,
        "versions": versions,
        **changes,
    }


def write_runs(folder: Path, p: Params) -> Path:
    """runs/: curve, picture of the views and manifest."""
    for method in p.experiment.methods:
        beta, value = (",beta", ",0.2") if method == "rsa" else ("", "")
        for seed in p.experiment.seeds:
            run = folder / method / f"s{seed}"
            run.mkdir(parents=True)
            health = ["0.9,40.5,-3.1" if step % 10 == 0 else ",," for step in range(1, 31)]
            rows = [f"{step},0.1,0.99{value},{4 / step + seed},{health[step - 1]}" for step in range(1, 31)]
            columns = f"step,lr,tau{beta},loss,embedding_std,effective_rank,uniformity"
            (run / "curve.csv").write_text("\n".join([columns, *rows]) + "\n")
            Image.new("RGB", (128, 32), (200, 30, 30)).save(run / "views.png")
            (run / "run.json").write_text(json.dumps(manifest(method, seed)))
    return folder
