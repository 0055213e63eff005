"""Stage `pretrain`: train one method with one seed on the shards of a dataset.

out/: encoder.safetensors, snapshots/STEP.safetensors, curve.csv (a row per step), views.png (what the method saw first), run.json
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pipeline.stage import code_sha256, run, write_json
from rsa import distributed, provenance
from rsa.data.index import Split, pretraining_split
from rsa.data.loader import Batch, Position, TrainingViews
from rsa.data.normalize import as_input
from rsa.methods import build_method, require_parts
from rsa.methods.hard_views import HardViews
from rsa.models.backbones import build_backbone, compile_copies
from rsa.models.encoder import save_encoder
from rsa.models.start import warm_start
from rsa.models.sync_batch_norm import synchronize
from rsa.params import Params
from rsa.training.checkpoint import Checkpoints, Interrupted, captured, restore, terminations
from rsa.training.collapse import Health, beyond
from rsa.training.cost import cost_per_image
from rsa.training.curve import Curve, Row
from rsa.training.device import gpu_number, setup
from rsa.training.launch import NOTE, follow, in_group, is_other_node, is_rank, launch, processes
from rsa.training.live import Live
from rsa.training.loop import train
from rsa.training.optim import build_optimizer
from rsa.training.progress import ProgressDisplay

READS = ("views", "model", "pretrain", "methods.{method}")
UNWATCHED = ("logging",)
SHOWN = 8  # samples in views.png


def pretrain(p: Params, method: str, seed: int, shards: Path, start: Path, out: Path, work: Path) -> None:
    """Train `method` with `seed` on the training split in `shards`; `work` keeps what a killed run continues from.

    `start` is what DVC watches for `pretrain.start`, and must be its file.
    """
    if start != Path(p.pretrain.start.file):
        raise ValueError(f"start must be pretrain.start.file ({p.pretrain.start.file}), got {start}")
    launch(p.pretrain, work, train_rank, p, method, seed, shards, work)
    for name in ("encoder.safetensors", "curve.csv"):
        shutil.copyfile(work / name, out / name)
    shutil.copytree(work / "snapshots", out / "snapshots", dirs_exist_ok=True)
    model, recipe = build_method(p.methods[method], build_backbone(p.model), p.views)
    split = Split(shards, pretraining_split(shards))
    first = next(iter(TrainingViews(split, recipe, batch_size=p.pretrain.batch_size, seed=seed, threads=1)))
    save_views(first, out / "views.png")
    described = json.loads((work / "run.json").read_text())
    cost = cost_per_image(model.train(), first.head(SHOWN))
    images = described.pop("images_seen")
    described["cost"] = {"images_seen": images, **cost._asdict(), "flops": images * cost.flops_per_image}
    sections = [section.format(method=method) for section in READS]
    described |= {"params_sha256": p.sha256(sections), "code_sha256": code_sha256()}
    write_json(out / "run.json", described)


def part() -> Callable[..., None] | None:
    """What this process does where it has a part in a run that another process leads."""
    if is_rank():

        def rank(p: Params, method: str, seed: int, shards: Path, start: Path, work: Path) -> None:
            in_group(p.pretrain, work / NOTE, train_rank, p, method, seed, shards, work)

        return rank
    if is_other_node():
        return lambda p, **rest: follow(p.pretrain)
    return None


def train_rank(p: Params, method: str, seed: int, shards: Path, work: Path) -> None:
    """What each process of the run does; the first one leaves the stage's files in `work`."""
    rank, world = distributed.rank(), distributed.world()
    threads = max(1, p.pretrain.threads // processes(p.pretrain))
    device = setup(p.pretrain.device, threads, seed)
    described = p.methods[method]
    backbone = build_backbone(p.model)
    started_from = warm_start(backbone, p.model, p.pretrain.start)
    model, recipe = build_method(described, backbone, p.views)
    require_parts(model, p.pretrain)
    model.to(device).to(memory_format=torch.channels_last).train()
    if p.pretrain.compile:
        if world > 1:
            raise ValueError("pretrain.compile must be false for several processes: what batch norms exchange cannot be compiled")
        compile_copies(model, model.backbone)
    if world > 1:
        synchronize(model)
        torch.manual_seed(seed * world + rank)  # weights are the same everywhere, what is dropped at random is not
    split = Split(shards, pretraining_split(shards))
    optimizer = build_optimizer(model.parameters(), model.constant_lr(), described.optimizer)

    checkpoints = Checkpoints(work, p.pretrain.checkpoint.steps, p.pretrain.checkpoint.minutes)
    newest = distributed.of_first(lambda: checkpoints.load(torch.device("cpu")))  # another node may not see it yet
    saved = newest or {"step": 0, "unreported": [], "curve_size": 0}
    start = saved["step"]
    if start:
        restore(saved, model, optimizer)
    views = TrainingViews(
        split,
        recipe,
        batch_size=p.pretrain.batch_size,
        seed=seed,
        threads=threads,
        gpu=gpu_number(device),
        rank=rank,
        world=world,
        start=start,
    )
    if start:
        views.position(start).require_same_data(Position(**saved["position"]))
    total_steps = p.pretrain.epochs * views.steps_per_epoch
    curve = Curve(work / "curve.csv")
    progress = ProgressDisplay(f"{method} s{seed}", start, total_steps, p.pretrain.batch_size, shown=rank == 0)
    snapshots = {round(share * total_steps): share for share in p.pretrain.snapshots}

    def snapshot(step: int) -> None:
        if rank == 0 and step in snapshots:
            (work / "snapshots").mkdir(exist_ok=True)
            path = work / "snapshots" / f"{step:08d}.safetensors"
            save_encoder(model.backbone, path, p.model.backbone, snapshots[step])

    if rank == 0:
        curve.cut(saved["curve_size"])
        live = Live(f"{method}_s{seed}", curve.path, tensorboard=p.logging.tensorboard)

    if start == 0:
        snapshot(0)

    def report(rows: list[Row]) -> None:
        if rank == 0:
            curve.append(rows)
            live.show(rows)
        progress.show(rows[-1])

    with terminations() as terminated:

        def step_done(step: int, unreported: Callable[[], list[Row]]) -> None:
            snapshot(step)  # before the checkpoint: a run that continues there has it
            stop = distributed.on_any(terminated())
            if distributed.on_any(checkpoints.due(step)) or stop:
                state = {"step": step, "unreported": unreported(), "position": asdict(views.position(step))}
                state |= captured(model, optimizer)
                if rank == 0:
                    checkpoints.save(step, state | {"curve_size": curve.size})
            if stop:
                if rank == 0:
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
    progress.close()
    chosen = None
    if isinstance(model, HardViews):  # every rank has to take part: batch norms see the global batch
        again = TrainingViews(split, recipe, batch_size=p.pretrain.batch_size, seed=seed, threads=1, rank=rank, world=world)
        chosen = choices(model, next(iter(again)), device, p.pretrain.precision)
    if rank > 0:
        return
    live.close()
    save_encoder(model.backbone, work / "encoder.safetensors", p.model.backbone)
    last = curve.last()
    found = Health(*(last[name] for name in Health._fields))
    write_json(
        work / "run.json",
        {
            "method": method,
            "seed": seed,
            "start": started_from,
            "steps": total_steps,
            "images_seen": total_steps * p.pretrain.batch_size,
            "parameters": sum(parameter.numel() for parameter in model.backbone.parameters()),
            "tensors": len(model.backbone.state_dict()),
            "views": recipe.names,
            "hard_views": chosen,
            "health": found._asdict(),
            "collapsed": beyond(found, p.pretrain.collapse) is not None,
            "device": device.type,
            "processes": world,
            "index_sha256": split.index_sha256,
            "versions": provenance.versions(),
        },
    )


def save_views(batch: Batch, path: Path) -> None:
    """A picture with one column per sample and one row per view; local views are enlarged to the others' size."""
    side = max(view.shape[1] for view in batch.views)
    rows = [np.concatenate([_enlarged(tile, side) for tile in view[:SHOWN].cpu().numpy()], axis=1) for view in batch.views]
    Image.fromarray(np.concatenate(rows, axis=0)).save(path)


def _enlarged(tile: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    return tile if len(tile) == side else np.asarray(Image.fromarray(tile).resize((side, side), Image.Resampling.NEAREST))


def choices(model: HardViews, batch: Batch, device: torch.device, precision: str) -> dict[str, Any] | None:
    """What the trained method chooses for the samples in views.png: see HardViews.choices."""
    views = [as_input(view, device) for view in batch.views]
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
        found = model.choices(views, batch.samples)
    return found and {name: values[:SHOWN] for name, values in found.items()}


if __name__ == "__main__":
    run(pretrain, READS, UNWATCHED, part())
