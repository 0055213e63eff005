"""Stage `pretrain`: train one method with one seed on the shards of a dataset.

out/: encoder.safetensors, curve.csv (a row per step), views.png (what the method saw first), run.json
"""

import shutil
from collections.abc import Callable
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
from rsa.training.checkpoint import Checkpoints, Interrupted, captured, restore, terminations
from rsa.training.collapse import Health, beyond
from rsa.training.curve import Curve, Row
from rsa.training.device import gpu_number, setup
from rsa.training.loop import train
from rsa.training.optim import build_optimizer

READS = ("views", "model", "pretrain", "methods.{method}")
SHOWN = 8  # samples in views.png


def pretrain(p: Params, method: str, seed: int, shards: Path, out: Path, work: Path) -> None:
    """Train `method` with `seed` on the training split in `shards`; `work` keeps what a killed run continues from."""
    device = setup(p.pretrain.device, p.pretrain.threads, seed)
    described = p.methods[method]
    model, recipe = build_method(described, build_backbone(p.model), p.views)
    require_parts(model, p.pretrain)
    model.to(device).to(memory_format=torch.channels_last).train()
    split = Split(shards, pretraining_split(shards))
    optimizer = build_optimizer(model.parameters(), model.constant_lr(), described.optimizer)

    checkpoints = Checkpoints(work, p.pretrain.checkpoint.steps, p.pretrain.checkpoint.minutes)
    saved = checkpoints.load(device) or {"step": 0, "unreported": [], "curve_size": 0}
    start = saved["step"]
    if start:
        print(f"{method} s{seed}  continues after step {start}", flush=True)
        restore(saved, model, optimizer)
    curve = Curve(work / "curve.csv", saved["curve_size"])
    views = TrainingViews(
        split,
        recipe,
        batch_size=p.pretrain.batch_size,
        seed=seed,
        threads=p.pretrain.threads,
        gpu=gpu_number(device),
        start=start,
    )
    total_steps = p.pretrain.epochs * views.steps_per_epoch

    def report(rows: list[Row]) -> None:
        curve.append(rows)
        print(f"{method} s{seed}  step {rows[-1]['step']:.0f}/{total_steps}  loss {rows[-1]['loss']:.4f}", flush=True)

    with terminations() as terminated:

        def step_done(step: int, unreported: Callable[[], list[Row]]) -> None:
            if checkpoints.due(step) or terminated():
                state = {"step": step, "unreported": unreported(), "curve_size": curve.size}
                checkpoints.save(step, state | captured(model, optimizer))
            if terminated():
                print(f"{method} s{seed}  ended by SIGTERM after step {step}: run again to continue", flush=True)
                raise Interrupted

        train(
            model,
            views,
            optimizer,
            p.pretrain,
            described.optimizer,
            total_steps=total_steps,
            device=device,
            report=report,
            start=start,
            pending=saved["unreported"],
            step_done=step_done,
        )
    shutil.copyfile(curve.path, out / "curve.csv")
    last = curve.last()
    found = Health(*(last[name] for name in Health._fields))
    save_encoder(model.backbone, out / "encoder.safetensors", p.model.backbone)
    save_views(
        next(iter(TrainingViews(split, recipe, batch_size=p.pretrain.batch_size, seed=seed, threads=1))), out / "views.png"
    )
    write_json(
        out / "run.json",
        {
            "method": method,
            "seed": seed,
            "steps": total_steps,
            "images_seen": total_steps * p.pretrain.batch_size,
            "parameters": sum(parameter.numel() for parameter in model.backbone.parameters()),
            "views": views.recipe.names,
            "health": found._asdict(),
            "collapsed": beyond(found, p.pretrain.collapse) is not None,
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
