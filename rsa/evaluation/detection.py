"""Evaluation of a pretrained backbone in a detector: training on a detection data set, and average precision on its test split.

AP is COCO's (https://cocodataset.org, "Metrics"), by torchmetrics and pycocotools: the mean over classes and over the
thresholds of IoU 0.5, 0.55, ..., 0.95; AP50 and AP75 at one of them. In percent. VOC's difficult objects count neither for
nor against, as COCO's crowds.
Differs from published numbers on VOC07: those are VOC's own AP (11 points of recall in 2007), which COCO's (101 points) is close
to but not equal.
"""

import math
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchmetrics.detection import MeanAveragePrecision

from rsa.data.detection_data import RAW
from rsa.data.object_images import ObjectImages, Place, Target, batches, training_batches
from rsa.evaluation.score import Scores, stamped
from rsa.models.detectors import build_detector, norms, train_mode
from rsa.params.detection import DetectionSchedule, DetectorTraining
from rsa.params.views import ChannelStatistics
from rsa.training.checkpoint import Checkpoints
from rsa.training.resumable import Resumable

DECAY = 0.1  # of the learning rate, at each of schedule.steps
TASKS = {"bbox": "detection", "segm": "segmentation"}
METRICS = {"AP": "map", "AP50": "map_50", "AP75": "map_75"}  # ours, torchmetrics'


def detection_scores(
    name: str,
    p: DetectorTraining,
    backbone: nn.Module,
    normalize: ChannelStatistics,
    data: Path,
    threads: int,
    seed: int,
    device: torch.device,
    checkpoints: Checkpoints,
) -> Scores:
    """Train a detector on the training split that `write_objects` wrote to `data`, test it on the test split: task -> score.

    `seed` draws the order of batches and the flips; new layers and sampled regions come from torch's generator. Raises
    FloatingPointError for a loss that is not finite.
    """
    repeats = "exactly" if deterministic(device) else "to rounding"
    masks, raw = p.detector == "mask_rcnn", Path((data / RAW).read_text().strip())
    train = ObjectImages(data / "train.json", raw, masks=masks, training=True, flip_prob=p.flip_prob, seed=seed)
    test = ObjectImages(data / "test.json", raw, masks=masks, training=False)
    detector = build_detector(backbone, len(train.classes), p, normalize).to(device)
    train_detector(detector, backbone, train, p, threads, device, checkpoints)
    precision = average_precision(detector, test, p, threads, device)
    scores: Scores = {}
    for kind, values in precision.items():
        for metric in METRICS:
            details = {"per_class": values["per_class"]} if metric == "AP" else {}
            scores[f"{TASKS[kind]} {metric}"] = stamped(name, p, metric, values[metric], 0.0, repeats=repeats, **details)
    return scores


def deterministic(device: torch.device) -> bool:
    """Return whether training on `device` repeats to the bit; on a GPU, allow the kernels that do not.

    torchvision's deterministic roi_align materialises every sampling point of every region, which takes terabytes.
    """
    if device.type != "cpu":
        torch.use_deterministic_algorithms(False)
    return device.type == "cpu"


def train_detector(
    detector: nn.Module,
    backbone: nn.Module,
    images: ObjectImages,
    p: DetectorTraining,
    threads: int,
    device: torch.device,
    checkpoints: Checkpoints,
) -> None:
    """Train in place; raise FloatingPointError with the iteration if the loss is not finite."""
    s = p.schedule
    optimizer = _optimizer(detector, s)
    train_mode(detector, backbone, p)
    training = Resumable(p.detector, checkpoints, detector, optimizer, s.iterations, s.batch_size)
    places = training_batches(images, s.batch_size, training.start, s.iterations)
    for iteration, (x, targets) in zip(training, batches(images, places, _workers(threads, device)), strict=False):
        lr = learning_rate(s, iteration)
        for group in optimizer.param_groups:
            group["lr"] = lr
        with _autocast(p, device):
            losses = detector([image.to(device) for image in x], [_moved(target, device) for target in targets])
        loss = torch.stack([value.float() for value in losses.values()]).sum()
        if not math.isfinite(value := loss.item()):
            terms = ", ".join(f"{term} {part.item():.3g}" for term, part in losses.items())
            raise FloatingPointError(
                f"the detector's loss must be finite, got {terms} at iteration {iteration + 1}: "
                "lower schedule.lr, raise schedule.warmup_iterations or use precision float32"
            )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        training.show(iteration, loss=value, lr=lr)


def learning_rate(s: DetectionSchedule, iteration: int) -> float:
    """Return the rate of an iteration, from 0: a line from warmup_factor x lr up to lr, times DECAY after each of `steps`."""
    warmed = min(1.0, iteration / s.warmup_iterations) if s.warmup_iterations else 1.0
    passed = sum(iteration >= step for step in s.steps)
    return s.lr * (s.warmup_factor + (1 - s.warmup_factor) * warmed) * DECAY**passed


def _optimizer(detector: nn.Module, s: DetectionSchedule) -> torch.optim.Optimizer:
    """Build SGD without weight decay of batch norms, as in detectron2."""
    of_norms = {id(parameter) for norm in norms(detector) for parameter in norm.parameters()}
    trained = [parameter for parameter in detector.parameters() if parameter.requires_grad]
    groups = [
        {"params": [each for each in trained if id(each) not in of_norms], "weight_decay": s.weight_decay},
        {"params": [each for each in trained if id(each) in of_norms], "weight_decay": 0.0},
    ]
    return torch.optim.SGD([group for group in groups if group["params"]], lr=s.lr, momentum=s.momentum)


@torch.no_grad()
def average_precision(
    detector: Any, images: ObjectImages, p: DetectorTraining, threads: int, device: torch.device
) -> dict[str, dict[str, Any]]:
    """Return `bbox` (and `segm` with masks) -> AP, AP50, AP75 and AP `per_class` in percent; None for a class without objects."""
    kinds: tuple[Literal["bbox", "segm"], ...] = ("bbox", "segm") if images.masks else ("bbox",)
    metric = MeanAveragePrecision(iou_type=kinds, class_metrics=True)
    detector.eval()
    detector.transform.min_size = (p.short_side.test,)
    for x, targets in batches(images, _in_order(len(images), p.schedule.batch_size), _workers(threads, device)):
        with _autocast(p, device):
            detections = detector([image.to(device) for image in x])
        metric.update([_predicted(each) for each in detections], targets)
    computed = metric.compute()
    names = dict(enumerate(images.classes, 1))
    precision: dict[str, dict[str, Any]] = {}
    for kind in kinds:
        prefix = f"{kind}_" if len(kinds) > 1 else ""
        labels, of_class = (computed[key].reshape(-1).tolist() for key in ("classes", f"{prefix}map_per_class"))
        precision[kind] = {
            **{ours: 100 * float(computed[prefix + theirs]) for ours, theirs in METRICS.items()},
            "per_class": {names[label]: 100 * ap if ap >= 0 else None for label, ap in zip(labels, of_class, strict=True)},
        }
    return precision


def _predicted(detections: Target) -> Target:
    """Move predictions to the CPU, with masks (N, H, W) instead of probabilities (N, 1, H, W)."""
    kept = {key: detections[key].float().cpu() for key in ("boxes", "scores")} | {"labels": detections["labels"].cpu()}
    return kept | ({"masks": (detections["masks"][:, 0] > 0.5).cpu()} if "masks" in detections else {})


def _in_order(count: int, batch_size: int) -> list[list[Place]]:
    return [[(number, 0) for number in range(start, min(start + batch_size, count))] for start in range(0, count, batch_size)]


def _moved(target: Target, device: torch.device) -> dict[str, Tensor]:
    return {key: value.to(device) for key, value in target.items()}


def _autocast(p: DetectorTraining, device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=p.precision == "bf16")


def _workers(threads: int, device: torch.device) -> int:
    """Return the number of decoding processes: 0 on the CPU, whose cores are busy with training."""
    return threads if device.type != "cpu" else 0
