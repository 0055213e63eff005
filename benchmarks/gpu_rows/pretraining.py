"""Methods in this project's own training loop: a step on images that lie on the device, and whole runs with data."""

import itertools
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.gpu_rows.setting import Setting
from benchmarks.gpu_rows.stopwatch import Stopwatch
from rsa.data.batch import Batch
from rsa.data.index import Split
from rsa.data.normalize import Normalize
from rsa.data.samples import Samples
from rsa.methods import build_method
from rsa.models.backbones import build_backbone, compile_copies
from rsa.models.heads import Head
from rsa.params.document import Params
from rsa.recipes import load_recipe
from rsa.training.device import gpu_number
from rsa.training.loop import train
from rsa.training.optim import build_optimizer
from rsa.training.run import Run, prepare

ENDLESS = 10**6  # steps: what is measured lies at the beginning of a training
SHALLOW = {"layers": [1, 1, 1, 1], "channels": [32, 64, 128, 256]}  # of the small network


def changed(p: Params, **sections: dict[str, Any]) -> Params:
    """Return params with other values of some keys of some sections."""
    return p.model_copy(update={name: getattr(p, name).model_copy(update=values) for name, values in sections.items()})


def imagenet(setting: Setting, batch_size: int = 256, optimizer: str = "lars") -> Params:
    """The recipe `imagenet` in the batch of one GPU; with `sgd` its methods have the optimiser of the recipe `cifar10`."""
    p = changed(load_recipe("imagenet"), pretrain={"batch_size": batch_size})
    if optimizer == "sgd":
        sgd = load_recipe("cifar10").methods["rsa"].optimizer
        p.methods.update({name: p.methods[name].model_copy(update={"optimizer": sgd}) for name in ("byol", "rsa")})
    return tiny(p, 48) if setting.quick else p


def cifar(setting: Setting) -> Params:
    """The recipe `cifar10`: a ResNet-18 with a small stem."""
    p = load_recipe("cifar10")
    return tiny(p, 32) if setting.quick else p


def shallow(setting: Setting) -> Params:
    """The recipe `cifar10` with a network of 10 layers, half as wide, and a batch of 128."""
    p = changed(load_recipe("cifar10"), pretrain={"batch_size": 128}, model={"backbone_args": SHALLOW})
    return tiny(p, 32) if setting.quick else p


def tiny(p: Params, size: int) -> Params:
    """Make networks, images and batches so small that a step takes a moment on a CPU."""
    heads = {"projector": Head(hidden=64, out=32), "predictor_hidden": 64}
    p.methods.update({name: p.methods[name].model_copy(update=heads) for name in ("byol", "rsa")})
    model = {"backbone": "resnet18", "backbone_args": {"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16]}}
    return changed(p, pretrain={"batch_size": 8}, views={"size": size}, model=model)


class Training:
    """A method of a recipe, ready for steps on random images that lie on the device."""

    def __init__(self, p: Params, name: str, device: torch.device, *, compiled: bool = False, **changes: Any) -> None:
        torch.manual_seed(0)
        self.p, self.device = p, device
        self.section = p.methods[name].model_copy(update=changes)
        self.model, self.recipe = build_method(self.section, build_backbone(p.model), p.views)
        prepare(self.model, device)
        if compiled:
            compile_copies(self.model, self.model.backbone)
        self.optimizer = build_optimizer(self.model.parameters(), self.model.constant_lr(), self.section.optimizer)
        self.normalize = Normalize(p.views.normalize, device)

    @cached_property
    def made(self) -> list[Batch]:
        """Two random batches."""
        size = self.p.pretrain.batch_size
        views = [self.recipe.crops[view.crop].size for view in self.recipe.views]
        boxes = np.random.default_rng(0).integers(1, 9, (len(self.recipe.crops), size, 5))
        samples = Samples(np.arange(size), torch.zeros(size, dtype=torch.long), boxes, 0, 0)
        return [
            Batch(i, samples, [torch.randint(256, (size, s, s, 3), dtype=torch.uint8, device=self.device) for s in views])
            for i in range(2)
        ]

    def batches(self, count: int) -> Iterator[Batch]:
        """Yield so many batches."""
        return itertools.islice(itertools.cycle(self.made), count)

    def train(self, batches: Iterator[Batch]) -> None:
        """Take a step on each of the batches."""
        train(
            self.model, batches, self.optimizer, self.p.pretrain, self.section.optimizer,
            total_steps=ENDLESS, normalize=self.normalize, stop_on_collapse=False, report=lambda rows: None,
        )  # fmt: skip

    def laps(self, warm: int, measured: int) -> list[float]:
        """Return the seconds of each of the `measured` steps after `warm` others."""
        watch = Stopwatch(self.device)
        self.train(watch.before_each(self.batches(warm + measured)))
        watch.mark()
        return watch.laps()[warm:]


class MarkedViews:
    """A loader that marks when each batch is asked for."""

    def __init__(self, views: Any, watch: Stopwatch) -> None:
        self.views, self.watch = views, watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self.views, name)

    def __iter__(self) -> Iterator[Batch]:
        return self.watch.before_each(self.views)


def loader(training: Training, split: Split, threads: int) -> Any:
    """The loader of a run."""
    from rsa.data.loader import TrainingViews  # needs DALI

    size, gpu = training.p.pretrain.batch_size, gpu_number(training.device)
    return TrainingViews(split, training.recipe, batch_size=size, seed=0, threads=threads, gpu=gpu)


def input_laps(training: Training, split: Split, threads: int, warm: int, measured: int) -> list[float]:
    """Return the seconds of each batch of the loader alone."""
    watch = Stopwatch(training.device)
    for _ in itertools.islice(watch.before_each(loader(training, split, threads)), warm + measured + 1):
        pass
    return watch.laps()[warm:]


def run_laps(training: Training, split: Split, threads: int, work: Path, warm: int, measured: int) -> list[float]:
    """Return the seconds of each step of a whole run, as the stage `pretrain` trains: data, steps, curve, checkpoints."""
    watch = Stopwatch(training.device)
    views: Any = MarkedViews(loader(training, split, threads), watch)
    p = changed(
        training.p,
        pretrain={"epochs": -(-(warm + measured) // views.steps_per_epoch), "warmup_epochs": 0},
        runtime={"snapshots": [0.0], "on_collapse": "mark"},
    )
    work.mkdir()
    run = Run(
        name="benchmark", model=training.model, optimizer=training.optimizer, schedule=training.section.optimizer,
        pretrain=p.pretrain, runtime=p.runtime, normalize=training.normalize, work=work,
        save_encoder=lambda path, progress: path.touch(),
    )  # fmt: skip
    run.train(lambda start: views)
    return watch.laps()[warm : warm + measured]
