"""Detection at the size of a test: settings, and a ResNet that takes milliseconds."""

from typing import Any

import torch
from torch import nn

from rsa.models.backbones import build_backbone
from rsa.models.detectors import norms
from rsa.params.detection import COCO, VOC, DetectorTraining
from rsa.params.model import Model

MODEL: dict[str, Any] = {
    "backbone": "resnet18",
    "backbone_args": {"layers": [1, 1, 1, 1], "channels": [16, 32, 64, 64], "stem_type": "deep", "stem_width": 8},
    "small_stem": False,
}


def tiny_backbone(seed: int = 0) -> nn.Module:
    """A random one, whose blocks all do something: timm starts the last batch norm of each at 0."""
    torch.manual_seed(seed)
    backbone = build_backbone(Model.model_validate(MODEL))
    for norm in norms(backbone):
        nn.init.ones_(norm.get_parameter("weight"))
    return backbone


def tiny_detection(data: VOC | COCO, iterations: int = 40, **changes: Any) -> DetectorTraining:
    schedule = {
        "iterations": iterations,
        "batch_size": 4,
        "lr": 0.05,
        "warmup_iterations": min(10, iterations),
        "warmup_factor": 0.01,
        "steps": [iterations * 4 // 5] if iterations > 4 else [],
        "momentum": 0.9,
        "weight_decay": 0.0001,
    }
    values: dict[str, Any] = {
        "detector": "mask_rcnn" if data.format == "coco" else "faster_rcnn",
        "features": "fpn",
        "channels": 16,
        "hidden": 64,
        "backbone": "frozen",
        "anchors": {"sizes": [12, 16, 20, 24, 28], "ratios": [1.0]},
        "short_side": {"train": [64], "test": 64},
        "long_side": 128,
        "flip_prob": 0.5,
        "schedule": schedule,
        "precision": "float32",
    }
    return DetectorTraining.model_validate({**values, **changes})
