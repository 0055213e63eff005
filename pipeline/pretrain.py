"""Stage `pretrain`: train one method with one seed on the shards of a dataset.

out/: encoder.safetensors, curve.csv (a row per step), views.png (what the method saw first), run.json
"""

import csv
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from pipeline.stage import run, write_json
from rsa import provenance
from rsa.data.index import Split, pretraining_split
from rsa.data.loader import Batch, TrainingViews
from rsa.methods import build_method, require_parts
from rsa.models.backbones import build_backbone
from rsa.models.encoder import save_encoder
from rsa.params import Params
from rsa.training.device import gpu_number, setup
from rsa.training.loop import Row, train
from rsa.training.optim import build_optimizer

READS = ("views", "model", "pretrain", "methods.{method}")
SHOWN = 8  # samples in views.png


def pretrain(p: Params, method: str, seed: int, shards: Path, out: Path) -> None:
    """Train `method` with `seed` on the training split in `shards`."""
    device = setup(p.pretrain.device, p.pretrain.threads, seed)
    described = p.methods[method]
    model, recipe = build_method(described, build_backbone(p.model), p.views)
    require_parts(model, p.pretrain)
    model.to(device).to(memory_format=torch.channels_last).train()
    split = Split(shards, pretraining_split(shards))
    views = TrainingViews(
        split,
        recipe,
        batch_size=p.pretrain.batch_size,
        seed=seed,
        threads=p.pretrain.threads,
        gpu=gpu_number(device),
    )
    total_steps = p.pretrain.epochs * views.steps_per_epoch
    with (out / "curve.csv").open("w", newline="") as file:
        curve = csv.writer(file, lineterminator="\n")

        def report(rows: list[Row]) -> None:
            columns = list(rows[-1])  # the last row of a few has the most terms
            if rows[0]["step"] == 1:
                curve.writerow(columns)
            curve.writerows([f"{row[name]:.9g}" if name in row else "" for name in columns] for row in rows)
            last = rows[-1]
            print(f"{method} s{seed}  step {last['step']:.0f}/{total_steps}  loss {last['loss']:.4f}", flush=True)

        train(
            model,
            views,
            build_optimizer(model.parameters(), model.constant_lr(), described.optimizer),
            p.pretrain,
            described.optimizer,
            total_steps=total_steps,
            device=device,
            report=report,
        )
    save_encoder(model.backbone, out / "encoder.safetensors", p.model.backbone)
    save_views(next(iter(views)), out / "views.png")
    write_json(
        out / "run.json",
        {
            "method": method,
            "seed": seed,
            "steps": total_steps,
            "images_seen": total_steps * p.pretrain.batch_size,
            "parameters": sum(parameter.numel() for parameter in model.backbone.parameters()),
            "views": views.recipe.names,
            "device": device.type,
            "index_sha256": split.index_sha256,
            "versions": provenance.versions(),
        },
    )


def save_views(batch: Batch, path: Path) -> None:
    """A picture with one column per sample and one row per view."""
    rows = [np.concatenate(list(view[:SHOWN].cpu().numpy()), axis=1) for view in batch.views]
    Image.fromarray(np.concatenate(rows, axis=0)).save(path)


if __name__ == "__main__":
    run(pretrain, READS)
