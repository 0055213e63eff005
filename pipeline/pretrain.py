"""Stage `pretrain`: train one method with one seed on the shards of a dataset.

out/: encoder.safetensors, snapshots/STEP.safetensors, curve.csv (a row per step), views.png (what the method saw first), run.json
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import nn

from pipeline.run_description import Sections, encoder_description, run_manifest, sections
from pipeline.stage import require_same_path, run, write_json
from rsa import distributed, fingerprint
from rsa.data.batch import Batch
from rsa.data.index import Split, pretraining_split
from rsa.data.loader import TrainingViews
from rsa.data.normalize import Normalize
from rsa.data.picture import save_views
from rsa.data.views import Recipe, candidates
from rsa.evaluation.online_probe import OnlineProbe
from rsa.methods import build_method, check_accumulation, control_encoder, settings_of
from rsa.methods.hard_views import HardViews
from rsa.methods.method import ControlSettings, MethodSettings
from rsa.models.backbones import build_backbone, compile_copies
from rsa.models.encoder import save_encoder
from rsa.models.image_sizes import require_sizes
from rsa.models.start import warm_start
from rsa.models.sync_batch_norm import synchronize
from rsa.params.evaluation import Geometry
from rsa.params.model import Model
from rsa.params.pretrain import Collapse, Pretrain
from rsa.params.runtime import Runtime
from rsa.params.sections import At
from rsa.params.views import Views
from rsa.training.collapse import Health, threshold_violation
from rsa.training.cost import cost_per_image
from rsa.training.curve import Curve
from rsa.training.device import gpu_number, setup
from rsa.training.launch import ERROR_FILE, exec_torchrun, in_group, is_other_node, is_rank, launch
from rsa.training.memory import explained_shortage
from rsa.training.optim import build_optimizer
from rsa.training.run import Run, prepare

PICTURED = 8  # samples in views.png


def pretrain(
    views: Views,
    model: Model,
    pretrain: Pretrain,
    settings: Annotated[MethodSettings | ControlSettings, At("methods.{method}", settings_of)],
    runtime: Runtime,
    method: str,
    seed: int,
    shards: Path,
    start: Path,
    out: Path,
    work: Path,
) -> None:
    """Train `method` with `seed` on the training split of the dataset with the manifest `shards`.

    `start` is the dependency that DVC tracks for `pretrain.start`, and must be its file; `work` keeps checkpoints.
    """
    require_same_path("start", start, "pretrain.start.file", pretrain.start.file)
    split = Split(shards.parent, pretraining_split(shards.parent))
    code = fingerprint.sha256((Path("code/pretrain") / method).read_text())
    p = sections(views, model, pretrain, settings, runtime, method)
    hashes = {"params_sha256": p.sha256, "code_sha256": code}
    if isinstance(settings, ControlSettings):
        write_control(p, method, seed, split, hashes, out)
        return
    require_sizes(model, views.sizes)
    launch(p.pretrain, runtime, work, train_rank, p, method, seed, shards.parent, work)
    for name in ("encoder.safetensors", "curve.csv"):
        shutil.copyfile(work / name, out / name)
    shutil.copytree(work / "snapshots", out / "snapshots", dirs_exist_ok=True)
    trained, recipe = build_method(settings, build_backbone(model), views)
    first = first_batch(split, recipe, pretrain.batch_size, seed)
    save_views(first.views, PICTURED, out / "views.png")
    manifest = json.loads((work / "run.json").read_text())
    cost = cost_per_image(trained.train(), first.head(PICTURED), Normalize(views.normalize, torch.device("cpu")))
    images = manifest.pop("images_seen")
    manifest["cost"] = {"images_seen": images, **cost._asdict(), "flops": images * cost.flops_per_image}
    write_json(out / "run.json", manifest | hashes)


def first_batch(split: Split, recipe: Recipe, batch_size: int, seed: int) -> Batch:
    """Return the first batch of a run."""
    return next(iter(TrainingViews(split, recipe, batch_size=batch_size, seed=seed, threads=1)))


def write_control(p: Sections, method: str, seed: int, split: Split, hashes: dict[str, str], out: Path) -> None:
    """Write the outputs of a control, which has an encoder but is not trained."""
    device = setup(p.runtime.device, p.runtime.threads.pretrain, seed, p.runtime.kernels)
    encoder = control_encoder(p.settings, build_backbone(p.model), p.views)
    (out / "snapshots").mkdir()
    description = encoder_description(p, method, seed, split)
    save_encoder(encoder, out / "snapshots" / f"{0:08d}.safetensors", description, 0.0)
    save_encoder(encoder, out / "encoder.safetensors", description)
    (out / "curve.csv").write_text("step\n")
    save_views(first_batch(split, candidates(p.views), p.pretrain.batch_size, seed).views, PICTURED, out / "views.png")
    manifest = run_manifest(p, method, seed, encoder, split, device)
    write_json(out / "run.json", manifest | {"start": {"weights": "random"}, "steps": 0, "images_seen": 0} | hashes)


def rank() -> Callable[..., None] | None:
    """Return the entry point of a non-leading rank or node; None in the leading process."""
    if is_rank():

        def one_rank(
            views: Views, model: Model, pretrain: Pretrain, settings: MethodSettings, runtime: Runtime,
            method: str, seed: int, shards: Path, start: Path, work: Path,
        ) -> None:  # fmt: skip
            p = sections(views, model, pretrain, settings, runtime, method)
            in_group(runtime, work / ERROR_FILE, train_rank, p, method, seed, shards.parent, work)

        return one_rank
    if is_other_node():
        return lambda runtime, **rest: exec_torchrun(runtime)
    return None


def train_rank(p: Sections, method: str, seed: int, shards: Path, work: Path) -> None:
    """Train as one rank of a run; the first rank leaves the stage's files in `work`."""
    threads = p.runtime.threads.pretrain
    device = setup(p.runtime.device, threads, seed, p.runtime.kernels)
    normalize = Normalize(p.views.normalize, device)
    backbone = build_backbone(p.model)
    started_from = warm_start(backbone, p.model, p.pretrain.start)
    model, recipe = build_method(p.settings, backbone, p.views)
    check_accumulation(model, p.pretrain)
    prepare(model, device)
    ready_for_ranks(model, p.runtime, seed)
    split = Split(shards, pretraining_split(shards))
    description = encoder_description(p, method, seed, split)

    def views(start: int, threads: int = threads, gpu: int | None = gpu_number(device)) -> TrainingViews:
        return TrainingViews(
            split,
            recipe,
            batch_size=p.pretrain.batch_size,
            seed=seed,
            threads=threads,
            gpu=gpu,
            rank=distributed.rank(),
            world=distributed.world_size(),
            start=start,
        )

    this = Run(
        name=f"{method} s{seed}",
        model=model,
        optimizer=build_optimizer(model.parameters(), model.constant_lr(), p.settings.optimizer),
        schedule=p.settings.optimizer,
        pretrain=p.pretrain,
        runtime=p.runtime,
        normalize=normalize,
        work=work,
        save_encoder=lambda path, progress: save_encoder(model.backbone, path, description, progress),
        online_probe=online_probe(p, model, shards, normalize, seed) if p.runtime.online_probe.every_epochs else None,
    )
    with explained_shortage(p.pretrain, distributed.world_size()):
        steps = this.train(views)
    chosen = None
    if isinstance(model, HardViews):  # collective: batch norms reduce over all ranks
        chosen = choices(model, next(iter(views(0, 1, None))), normalize, p.pretrain.precision)
    if distributed.rank() > 0:
        return
    save_encoder(model.backbone, work / "encoder.safetensors", description)
    manifest = run_manifest(p, method, seed, model.backbone, split, device) | {
        "start": started_from,
        "steps": steps,
        "images_seen": steps * p.pretrain.batch_size,
        "views": recipe.names,
        "hard_views": chosen,
        **final_health(this.curve, p.pretrain.collapse),
    }
    if device.type == "cuda":  # its JPEG decoder and its resizing round in another way
        manifest["views_differ_from_cpu"] = next(iter(views(0))).difference(next(iter(views(0, 1, None))))
    write_json(work / "run.json", manifest)


def final_health(curve: Curve, limits: Collapse) -> dict[str, Any]:
    """Return the collapse metrics in the last row of the curve, and whether the run has collapsed."""
    last = curve.last()
    health = Health(*(last[name] for name in Health._fields))
    return {"health": health._asdict(), "collapsed": threshold_violation(health, limits) is not None}


def online_probe(p: Sections, model: nn.Module, shards: Path, normalize: Normalize, seed: int) -> Callable[[], dict[str, float]]:
    """Return the online probe of a run, on central crops of training images that are as large as its views."""
    geometry = Geometry(resize=p.views.size, crop=p.views.size, interpolation=p.views.interpolation)
    train, samples = Split(shards, "train"), p.runtime.online_probe.samples  # `pretrain` may have images without labels
    probe = OnlineProbe(train, samples, geometry, normalize, seed, p.runtime.threads.pretrain)
    return lambda: probe(model.backbone)  # type: ignore[arg-type]


def ready_for_ranks(model: nn.Module, runtime: Runtime, seed: int) -> None:
    """Compile the backbone if `runtime` asks for it; with several ranks, let batch norms see the batches of all."""
    rank, world = distributed.rank(), distributed.world_size()
    if runtime.compile:
        compile_copies(model, model.backbone)  # type: ignore[arg-type]
    if world > 1:
        synchronize(model)
        torch.manual_seed(seed * world + rank)  # dropout differs between ranks, weights do not


def choices(model: HardViews, batch: Batch, normalize: Normalize, precision: str) -> dict[str, Any] | None:
    """Return the choices of the trained method for the samples in views.png: see HardViews.choices."""
    views = [normalize(view) for view in batch.views]
    with torch.autocast(normalize.device.type, torch.bfloat16, enabled=precision == "bf16"):
        chosen = model.choices(views, batch.samples)
    return chosen and {name: values[:PICTURED] for name, values in chosen.items()}


if __name__ == "__main__":
    run(pretrain, rank())
