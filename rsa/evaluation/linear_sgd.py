"""Linear classifiers trained by SGD on augmented images through a frozen encoder: the protocols of the literature.

One pass over the images trains a classifier for each learning rate, each number of blocks and each pooling of a protocol.
Where there are several, each is trained on a part of the training split, the best on the held-out rest is chosen, and that
one is trained again on the whole split. It is always the classifier after the last step; the epoch is not chosen.

Differs: learning rates fall by step along half a cosine, where DINO's, SimSiam's and lightly's code lowers them by epoch.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from rsa.data.evaluation_images import evaluation_images
from rsa.data.index import Split
from rsa.data.loader import TrainingViews
from rsa.data.normalize import Normalize
from rsa.data.views import plain_crops
from rsa.evaluation.model_selection import selection_parts
from rsa.evaluation.score import Score, accuracy, top1
from rsa.models.backbones import variants
from rsa.params.evaluation import Evaluation
from rsa.params.linear import ImageProtocol, Steps
from rsa.schedules import cosine
from rsa.training.checkpoint import Checkpoints
from rsa.training.device import gpu_number
from rsa.training.lars import LARS
from rsa.training.resumable import Resumable

EPS = 1e-5  # added to the variance of features, as in a batch norm


@dataclass(frozen=True)
class Setting:
    """Hyperparameters of one classifier of a protocol."""

    lr: float
    blocks: int
    pooling: str

    def __str__(self) -> str:
        return f"lr {self.lr:g}, {self.blocks} blocks, {self.pooling}"


@dataclass(frozen=True)
class Normalization:
    """(h / |h| - mean) / sqrt(var + 1e-5) with statistics of the training split (Koohpayegani et al. 2020, CompRess)."""

    mean: Tensor
    sd: Tensor  # sqrt(var + 1e-5)

    def __call__(self, h: Tensor) -> Tensor:
        """Normalise representations: (B, D) -> (B, D)."""
        return (F.normalize(h, dim=1) - self.mean) / self.sd


@dataclass(frozen=True)
class Frozen:
    """A frozen backbone, and how images are read for it."""

    backbone: nn.Module
    normalize: Normalize
    evaluation: Evaluation
    threads: int

    @property
    def device(self) -> torch.device:
        """The device of the backbone."""
        return self.normalize.device

    @torch.no_grad()
    def variants(self, images: Tensor, p: ImageProtocol) -> dict[tuple[int, str], Tensor]:
        """Return the representations (B, D) of uint8 images (B, H, W, 3) by number of blocks and pooling."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=p.precision == "bf16"):
            return variants(self.backbone, self.normalize(images), p.blocks, list(p.pooling))

    def features(self, split: Split, p: ImageProtocol) -> dict[tuple[int, str], Tensor]:
        """Return the representations (N, D) of a whole split's central crops, on the CPU, by number of blocks and pooling."""
        e = self.evaluation
        gpu = gpu_number(self.device)
        images = evaluation_images(split, p.geometry or e, batch_size=e.batch_size, threads=self.threads, gpu=gpu)
        parts_of: dict[tuple[int, str], list[Tensor]] = {}
        for batch in images:
            for key, h in self.variants(batch, p).items():
                parts_of.setdefault(key, []).append(h.cpu())
        return {key: torch.cat(parts) for key, parts in parts_of.items()}


def linear_sgd(
    name: str, p: ImageProtocol, frozen: Frozen, train: Split, test: Split, seed: int, checkpoints: Checkpoints
) -> Score:
    """Return the score of protocol `name`; `seed` draws the held-out part, the batches and the crops.

    Raises FloatingPointError if the classifiers of all settings diverge.
    """
    frozen.backbone.to(frozen.device).to(memory_format=torch.channels_last).eval().requires_grad_(False)
    settings = [Setting(*values) for values in product(p.lr, p.blocks, p.pooling)]
    held: dict[Setting, float] = {}
    if len(settings) > 1:
        parts = selection_parts(train.labels, train.classes, p.held_out, seed)
        kept, out = (train.subset(ids) for ids in parts)
        by_setting = _train(p, frozen, kept, settings, seed, out, checkpoints.part("selection"), every_epoch=False)
        held = {setting: top1(out.labels, predictions[-1]) for setting, predictions in by_setting.items()}
    best = max(settings, key=lambda setting: held.get(setting, 0.0))
    tried = settings if p.best_on_test else [best]
    by_setting = _train(p, frozen, train, tried, seed, test, checkpoints.part("final"), every_epoch=p.best_on_test)
    every = [top1(test.labels, predicted) for predictions in by_setting.values() for predicted in predictions]
    return accuracy(
        name,
        p.model_dump(mode="json", exclude={"best_on_test"}),
        test.labels,
        by_setting[best][-1],
        chosen=str(best),
        held_out_top1={str(setting): value for setting, value in held.items()},
        best_on_test=max(every) if p.best_on_test else None,
    )


def _train(
    p: ImageProtocol,
    frozen: Frozen,
    train: Split,
    settings: list[Setting],
    seed: int,
    judged: Split,
    checkpoints: Checkpoints,
    every_epoch: bool,
) -> dict[Setting, list[NDArray[np.int64]]]:
    """Train a classifier per setting; return its predictions on `judged` after each epoch or only the last."""
    batch_size = min(p.batch_size, len(train))
    views = TrainingViews(
        train,
        plain_crops((p.geometry or frozen.evaluation).crop, p.crop_scale, p.crop_interpolation),
        batch_size=batch_size,
        seed=seed,
        threads=frozen.threads,
        gpu=gpu_number(frozen.device),
    )
    fixed = frozen.features(judged, p)
    normalize = _normalizations(p, frozen, train) if p.normalize == "l2_standardize" else {}
    heads = {s: _classifier(p, fixed[s.blocks, s.pooling].shape[1], len(train.classes), seed).to(frozen.device) for s in settings}
    optimizer = _optimizer(p, heads, batch_size)
    steps = p.epochs * views.steps_per_epoch
    predictions = {str(s): list[Tensor]() for s in settings}
    training = Resumable("linear", checkpoints, nn.ModuleList(heads.values()), optimizer, steps, batch_size, predictions)
    views.start = training.start
    for step, batch in zip(training, views, strict=False):
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * _factor(p, step / steps, step // views.steps_per_epoch)
        h = frozen.variants(batch.views[0], p)
        h = {key: normalize[key](x) for key, x in h.items()} if normalize else h
        labels = batch.samples.labels.to(frozen.device)
        losses = [F.cross_entropy(head(h[s.blocks, s.pooling]), labels) for s, head in heads.items()]
        optimizer.zero_grad()
        torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if training.shows(step):
            training.show(step, loss=torch.stack(losses).detach().nan_to_num(torch.inf).min().item())
        if step + 1 == steps or (every_epoch and (step + 1) % views.steps_per_epoch == 0):
            diverged = _diverged(losses, settings, step + 1)
            for s, head in heads.items():
                predicted = _predict(head, fixed[s.blocks, s.pooling], normalize.get((s.blocks, s.pooling)), frozen)
                never_right = torch.full_like(predicted, -1)
                training.kept[str(s)].append(never_right if s in diverged else predicted)
    return {s: [predicted.numpy() for predicted in training.kept[str(s)]] for s in settings}


def _classifier(p: ImageProtocol, dimension: int, classes: int, seed: int) -> nn.Linear:
    """Initialise weights that do not depend on the other settings of the grid."""
    torch.manual_seed(seed)
    head = nn.Linear(dimension, classes)
    if p.start == "normal":
        nn.init.normal_(head.weight, std=0.01)
        nn.init.zeros_(head.bias)
    return head


def _optimizer(p: ImageProtocol, heads: dict[Setting, nn.Linear], batch_size: int) -> torch.optim.Optimizer:
    """Return a parameter group per classifier with its peak rate: lr, or lr x batch_size / 256."""
    scale = batch_size / 256 if p.lr_per_256 else 1.0
    groups: Iterable[dict[str, Any]] = [{"params": list(head.parameters()), "peak": s.lr * scale} for s, head in heads.items()]
    if p.optimizer == "lars":
        return LARS(groups, 0.0, momentum=p.momentum, weight_decay=p.weight_decay)
    return torch.optim.SGD(groups, lr=0.0, momentum=p.momentum, weight_decay=p.weight_decay, nesterov=p.nesterov)


def _factor(p: ImageProtocol, progress: float, epoch: int) -> float:
    """Return the learning rate as a fraction of its peak at `progress` in [0, 1)."""
    if isinstance(p.schedule, Steps):
        return float(p.schedule.factor ** sum(epoch >= at for at in p.schedule.at))
    return cosine(progress, 1.0, 0.0)


def _normalizations(p: ImageProtocol, frozen: Frozen, train: Split) -> dict[tuple[int, str], Normalization]:
    normalizations = {}
    for key, h in frozen.features(train, p).items():
        unit = F.normalize(h, dim=1).double()
        sd = (unit.var(0) + EPS).sqrt().float()
        normalizations[key] = Normalization(unit.mean(0).float().to(frozen.device), sd.to(frozen.device))
    return normalizations


@torch.no_grad()
def _predict(head: nn.Linear, h: Tensor, normalize: Normalization | None, frozen: Frozen) -> Tensor:
    parts = []
    for part in torch.split(h, frozen.evaluation.batch_size):
        x = part.to(frozen.device)
        parts.append(head(normalize(x) if normalize else x).argmax(1).cpu())
    return torch.cat(parts)


def _diverged(losses: list[Tensor], settings: list[Setting], step: int) -> list[Setting]:
    """Return the settings of a grid that diverged; raise FloatingPointError if all did."""
    diverged = [s for s, loss in zip(settings, losses, strict=True) if not torch.isfinite(loss)]
    if len(diverged) == len(settings):
        raise FloatingPointError(f"the loss of every linear classifier must be finite, got others at step {step}: {diverged[0]}")
    return diverged
