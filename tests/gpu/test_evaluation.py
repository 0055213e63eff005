"""Evaluations on a GPU are close to the CPU's, and repeat."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rsa.data.index import Split
from rsa.data.normalize import Normalize
from rsa.data.shards import write_shards
from rsa.data.sources import open_source
from rsa.evaluation.features import Features
from rsa.evaluation.knn import knn_predictions
from rsa.models.backbones import build_backbone
from rsa.params.document import Params
from tests.conftest import IMAGENET
from tests.evaluation.killed import at_once
from tests.evaluation.test_logistic import differing
from tests.gpu.device import CPU, GPU

Data = tuple[Split, Split]


@pytest.fixture
def digits(tiny: Params, tmp_path: Path) -> Data:
    folder = tmp_path / "shards"
    folder.mkdir()
    write_shards(open_source(tiny.datasets["digits"], 0), tiny.shards, {}, folder, tmp_path / "work")
    return Split(folder, "train"), Split(folder, "test")


def test_features_of_images(tiny: Params):
    pytest.importorskip("nvidia.dali", reason="needs DALI: features are not tested")
    from rsa.evaluation.encode import frozen

    torch.manual_seed(0)
    backbone = build_backbone(tiny.model)
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (64, 16, 16, 3), dtype=np.uint8))
    got, want = (frozen(copy.deepcopy(backbone), Normalize(IMAGENET, device))(images) for device in (GPU, CPU))
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4 * np.abs(want).max())


def test_pixels_of_a_split_and_their_neighbours(digits: Data, tiny: Params):
    """Images may be resized with other rounding, and features of random networks amplify that; pixels do not."""
    pytest.importorskip("nvidia.dali", reason="needs DALI: neighbours are not tested")
    from rsa.evaluation.encode import encode_split, frozen
    from tests.evaluation.test_linear_sgd import Pixels

    train, test = digits
    near = []
    for device in (GPU, CPU):
        encode = frozen(Pixels(), Normalize(IMAGENET, device))
        x, queries = (np.concatenate(list(encode_split(encode, split, tiny.evaluation, 1, device))) for split in digits)
        near += knn_predictions(Features(x, train.labels), Features(queries, test.labels), [5], 0.07).values()
    got, want = near
    assert np.mean(want == test.labels) > 0.9
    assert np.mean(got == want) > 0.99


def scores(evaluate: Callable[[torch.device], dict[str, Any]], at_least: float, points: float) -> None:
    """Require a score on the GPU within some points of the CPU's, both of a classifier that has learnt, and the same again."""
    got, again, want = (evaluate(device) for device in (GPU, GPU, CPU))
    assert got == again
    assert min(got["value"], want["value"]) > at_least
    assert got["value"] == pytest.approx(want["value"], abs=points)


def test_a_linear_classifier(tiny: Params, digits: Data):
    pytest.importorskip("nvidia.dali", reason="needs DALI: linear classifiers are not tested")
    from rsa.evaluation.linear_sgd import Frozen, linear_sgd
    from tests.evaluation.test_linear_sgd import Pixels, protocol

    def evaluate(device: torch.device) -> dict[str, Any]:
        torch.manual_seed(0)
        frozen = Frozen(Pixels(), Normalize(IMAGENET, device), tiny.evaluation, threads=1)
        return at_once(lambda checkpoints: linear_sgd("x", protocol(), frozen, *digits, 0, checkpoints))

    scores(evaluate, 60, points=2)


def test_fine_tuning(tiny: Params, digits: Data):
    pytest.importorskip("nvidia.dali", reason="needs DALI: fine-tuning is not tested")
    from rsa.evaluation.finetune import finetune

    def evaluate(device: torch.device) -> dict[str, Any]:
        torch.manual_seed(0)
        backbone, normalize = build_backbone(tiny.model), Normalize(IMAGENET, device)
        faster = tiny.finetune.training.optimizer.model_copy(update={"base_lr": 0.05})
        p = tiny.finetune.training.model_copy(update={"epochs": 20, "crop_scale": (0.8, 1.0), "optimizer": faster})
        return at_once(lambda checkpoints: finetune(backbone, p, tiny.evaluation, 1, *digits, 0, normalize, checkpoints))

    scores(evaluate, 50, points=12)  # of images and operators disturbed on a CPU, three runs were within 4.2


def detectors_losses(detector: nn.Module, device: torch.device) -> dict[str, float]:
    from tests.models.test_detectors import batch

    torch.manual_seed(0)
    images, targets = batch()
    moved = [{key: value.to(device) for key, value in target.items()} for target in targets]
    losses = detector.to(device).train()([image.to(device) for image in images], moved)
    torch.stack(list(losses.values())).sum().backward()
    return {name: value.item() for name, value in losses.items()}


@pytest.mark.parametrize("features", ["c4", "fpn"])
def test_a_step_of_a_detector(features: str, monkeypatch: pytest.MonkeyPatch):
    """Its losses; regions are drawn at random by the CPU's generator on both."""
    draw = torch.randperm
    monkeypatch.setattr(torch, "randperm", lambda n, device=None: draw(n).to(device))
    from rsa.models.detectors import build_detector
    from tests.evaluation.detectors import tiny_backbone
    from tests.models.test_detectors import settings

    torch.use_deterministic_algorithms(False)
    torch.manual_seed(0)
    detector = build_detector(tiny_backbone(), 2, settings(backbone="trained", features=features), IMAGENET)
    got, want = (detectors_losses(copy.deepcopy(detector), device) for device in (GPU, CPU))
    assert got == pytest.approx(want, rel=0.02, abs=0.01)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_detection_scores_say_that_they_repeat_to_rounding(tmp_path: Path):
    pytest.importorskip("torchmetrics", reason="needs torchmetrics: average precision is not tested")
    from rsa.evaluation.detection import detection_scores
    from tests.data.shapes import draw_voc
    from tests.evaluation.detectors import tiny_backbone, tiny_detection
    from tests.evaluation.test_detection import prepared

    p = tiny_detection(prepared(draw_voc, tmp_path, 8, 4), iterations=2)
    found = at_once(
        lambda checkpoints: detection_scores("shapes", p, tiny_backbone(), IMAGENET, tmp_path / "objects", 1, 0, GPU, checkpoints)
    )
    assert {score["repeats"] for score in found.values()} == {"to rounding" if GPU.type == "cuda" else "exactly"}
    assert all(0 <= score["value"] <= 100 for score in found.values())


def test_logistic_regressions(tmp_path: Path):
    assert differing(GPU.type, tmp_path).max() <= 2
