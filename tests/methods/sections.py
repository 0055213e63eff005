"""A small section of params.yaml for every method that is trained, for the backbone of tests.methods.networks."""

from typing import Any

from rsa.methods import settings_of

SGD = {"name": "sgd", "base_lr": 0.1, "momentum": 0.9, "weight_decay": 0.0005, "clip_each": None, "clip_norm": None}
DEEP = {"layers": 2, "hidden": 16, "out": 8}
BOOTSTRAP = {"projector": {"hidden": 16, "out": 8}, "predictor_hidden": 16, "ema_start": 0.9}
WARMED = {"start": 0.04, "end": 0.07, "warmup": 0.3}
DINO = {
    "head": {"hidden": 16, "bottleneck": 8, "out": 12, "norm_last_layer": True},
    "student_temperature": 0.1,
    "teacher_temperature": WARMED,
    "center_momentum": 0.9,
    "ema_start": 0.9,
    "freeze_last_layer": 0.1,
}

SECTIONS: dict[str, dict[str, Any]] = {
    "byol": BOOTSTRAP,
    "rsa": {**BOOTSTRAP, "beta": {"schedule": "cosine", "start": 0.4, "end": 0.0}, "aggressive_target": "online"},
    "simsiam": {"projector": DEEP, "predictor_hidden": 4, "fixed_predictor_lr": True},
    "simclr": {"projector": {**DEEP, "out_norm": True}, "joint_views": True, "temperature": 0.2},
    "barlow_twins": {"projector": DEEP, "off_diagonal": 0.005},
    "moco_v3": {
        "projector": DEEP,
        "predictor": {**DEEP, "out_norm": False},
        "temperature": 0.2,
        "ema_start": 0.9,
        "freeze_patch_embed": False,
    },
    "dino": DINO,
    "ibot": {**DINO, "masks": {"prob": 0.5, "ratio": [0.1, 0.5]}, "patch_weight": 1.0, "patch_temperature": WARMED},
    "supervised": {"classes": 3, "label_smoothing": 0.1},
}


def section(name: str, **changes: Any) -> Any:
    """The validated section of a method, with some keys changed."""
    values = {"method": name, "hard_views": None, "epochs": None, "optimizer": SGD, **SECTIONS[name], **changes}
    return settings_of(values).model_validate(values)
