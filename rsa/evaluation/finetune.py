"""Fine-tuning the whole network with a linear classifier on it, on all or a few labels of a dataset.

AdamW with a warm-up and half a cosine; the learning rate falls by `layer_decay` from each block to the one below (Clark et
al. 2020, ELECTRA; Bao et al. 2022, BEiT). Nothing is chosen: it is the network after the last step, and the test split is
read once.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from timm.optim import param_groups_layer_decay
from torch import nn

from rsa.data.evaluation_images import evaluation_images
from rsa.data.index import Split
from rsa.data.loader import TrainingViews
from rsa.data.normalize import Normalize
from rsa.data.splits import held_out
from rsa.data.views import plain_crops
from rsa.evaluation.score import Score, accuracy
from rsa.models.backbones import representation
from rsa.params.evaluation import Evaluation
from rsa.params.finetune import FinetuneTraining
from rsa.schedules import warmup_cosine
from rsa.training.checkpoint import Checkpoints
from rsa.training.device import gpu_number
from rsa.training.resumable import Resumable


def labelled(train: Split, percent: int, seed: int) -> Split:
    """Draw `percent` of every class, at least one image; all methods get the same ones."""
    if percent == 100:
        return train
    return train.subset(held_out(train.labels, train.classes, percent / 100, seed, "held out")[1])


def finetune(
    backbone: nn.Module,
    p: FinetuneTraining,
    e: Evaluation,
    threads: int,
    train: Split,
    test: Split,
    seed: int,
    normalize: Normalize,
    checkpoints: Checkpoints,
) -> Score:
    """Fine-tune on `train`, score on `test`; `seed` draws the classifier, the batches and the crops."""
    device = normalize.device
    torch.manual_seed(seed)
    classifier = nn.Linear(backbone.num_features, len(train.classes))  # type: ignore[arg-type]
    nn.init.normal_(classifier.weight, std=0.01)
    nn.init.zeros_(classifier.bias)
    backbone.to(device).to(memory_format=torch.channels_last).train().requires_grad_(True)
    classifier.to(device)

    views = TrainingViews(
        train,
        plain_crops(e.crop, p.crop_scale, e.interpolation),
        batch_size=min(p.batch_size, len(train)),
        seed=seed,
        threads=threads,
        gpu=gpu_number(device),
    )
    _fit(backbone, classifier, p, views, normalize, checkpoints)
    predicted = _predict(backbone, classifier, e, threads, test, normalize)
    details = {"train_images": len(train), "steps": p.epochs * views.steps_per_epoch}
    settings = p.model_dump(mode="json")
    return accuracy("finetune", settings, test.labels, predicted, **details)


def _fit(
    backbone: nn.Module,
    classifier: nn.Linear,
    p: FinetuneTraining,
    views: TrainingViews,
    normalize: Normalize,
    checkpoints: Checkpoints,
) -> None:
    """Train in place; raise FloatingPointError with the step at which the loss was seen not to be finite."""
    batch_size, steps = views.order.batch_size, p.epochs * views.steps_per_epoch
    optimizer = _optimizer(backbone, classifier, p)
    peak = p.optimizer.base_lr * batch_size / 256
    training = Resumable("finetune", checkpoints, nn.ModuleList([backbone, classifier]), optimizer, steps, batch_size)
    views.start = training.start
    for step, batch in zip(training, views, strict=False):
        rate = warmup_cosine((step + 1) / steps, p.warmup_epochs / p.epochs, peak, p.optimizer.end_lr)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["lr_scale"]
        with torch.autocast(normalize.device.type, torch.bfloat16, enabled=p.precision == "bf16"):
            h = representation(backbone, normalize(batch.views[0]))
        loss = F.cross_entropy(classifier(h), batch.samples.labels.to(normalize.device), label_smoothing=p.label_smoothing)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if p.optimizer.clip_norm is not None:
            nn.utils.clip_grad_norm_([*backbone.parameters(), *classifier.parameters()], p.optimizer.clip_norm)
        optimizer.step()
        if training.shows(step):
            if not math.isfinite(value := loss.item()):
                raise FloatingPointError(
                    f"the loss must be finite, got {value} at step {step + 1} of {steps}: "
                    "lower finetune.training.optimizer.base_lr"
                )
            training.show(step, loss=value, lr=rate)


def _optimizer(backbone: nn.Module, classifier: nn.Linear, p: FinetuneTraining) -> torch.optim.Optimizer:
    """Build AdamW with layer-wise rates by timm's blocks, without weight decay of 1-D parameters."""
    groups = param_groups_layer_decay(backbone, weight_decay=p.optimizer.weight_decay, layer_decay=p.layer_decay)
    groups.append({"params": [classifier.weight], "weight_decay": p.optimizer.weight_decay, "lr_scale": 1.0})
    groups.append({"params": [classifier.bias], "weight_decay": 0.0, "lr_scale": 1.0})
    return torch.optim.AdamW(groups, lr=0.0, betas=p.optimizer.betas)


@torch.no_grad()
def _predict(
    backbone: nn.Module, classifier: nn.Linear, e: Evaluation, threads: int, split: Split, normalize: Normalize
) -> NDArray[np.int64]:
    backbone.eval()
    gpu = gpu_number(normalize.device)
    images = evaluation_images(split, e, batch_size=e.batch_size, threads=threads, gpu=gpu)
    parts = [classifier(representation(backbone, normalize(batch))).argmax(1).cpu() for batch in images]
    return torch.cat(parts).numpy()
