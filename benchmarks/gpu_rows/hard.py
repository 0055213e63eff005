"""Hard View Selection with 4 candidates on ResNet-50 at 224 px: the time of a step over the plain method's."""

from collections.abc import Iterator
from statistics import median

import torch

from benchmarks.gpu_rows.pretraining import Training, imagenet
from benchmarks.gpu_rows.setting import Setting
from rsa.params.hard_views import HardViews, Scoring

PUBLISHED = {"joint_views": True, "precision": "same", "predicted": None, "reuse": False}
CHEAPEST = {
    "byol": {"joint_views": True, "precision": "bf16", "predicted": 0, "reuse": True},
    "rsa": {"joint_views": True, "precision": "bf16", "predicted": None, "reuse": True},
}


def hard_views(setting: Setting) -> Iterator[tuple[str, float, str]]:
    p = imagenet(setting, batch_size=128)
    for name, cheapest in CHEAPEST.items():
        for form, scoring in {"plain": None, "cheapest scoring": cheapest, "published scoring": PUBLISHED}.items():
            hard = scoring and HardViews(
                candidates=4, local_candidates=None, max_combinations=64, scoring=Scoring.model_validate(scoring)
            )
            training = Training(p, name, torch.device(setting.device), hard_views=hard)
            yield f"{name} step, {form}", 1000 * median(training.laps(*setting.steps(4, 8))), "ms"
            del training
