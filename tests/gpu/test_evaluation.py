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


def test_features_and_their_neighbours(tiny: Params, digits: Data):
    pytest.importorskip("nvidia.dali", reason="needs DALI: features are not tested")
    from rsa.evaluation.encode import encode_split, frozen

    torch.manual_seed(0)
    backbone = build_backbone(tiny.model)
    found = []
    for device in (GPU, CPU):
        encode = frozen(copy.deepcopy(backbone), Normalize(IMAGENET, device))
        images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (64, 16, 16, 3), dtype=np.uint8))
        splits = [np.concatenate(list(encode_split(encode, split, tiny.evaluation, 1, device))) for split in digits]
        found.append((encode(images), *splits))
    (got, *splits), (want, *want_splits) = found
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4 * np.abs(want).max())
    train, test = digits
    (near,), (near_want,) = (
        knn_predictions(Features(x, train.labels), Features(x_test, test.labels), [5], 0.07).values()
        for x, x_test in (splits, want_splits)
    )
    assert np.mean(near == near_want) > 0.97  # pixels are resized with other rounding


def scores(evaluate: Callable[[torch.device], dict[str, Any]], points: float) -> None:
    """Require the score on the GPU within some percent of the CPU's, and the same again."""
    got, again, want = (evaluate(device) for device in (GPU, GPU, CPU))
    assert got == again
    assert got["value"] == pytest.approx(want["value"], abs=points)


@pytest.mark.parametrize("optimizer", ["sgd", "lars"])
def test_a_linear_classifier(optimizer: str, tiny: Params, digits: Data):
    pytest.importorskip("nvidia.dali", reason="needs DALI: linear classifiers are not tested")
    from rsa.evaluation.linear_sgd import Frozen, linear_sgd
    from tests.evaluation.test_linear_sgd import Pixels, protocol

    def evaluate(device: torch.device) -> dict[str, Any]:
        torch.manual_seed(0)
        frozen = Frozen(Pixels(), Normalize(IMAGENET, device), tiny.evaluation, threads=1)
        p = protocol(optimizer=optimizer)
        return at_once(lambda checkpoints: linear_sgd("x", p, frozen, *digits, 0, checkpoints))

    scores(evaluate, 2.0)


def test_fine_tuning(tiny: Params, digits: Data):
    pytest.importorskip("nvidia.dali", reason="needs DALI: fine-tuning is not tested")
    from rsa.evaluation.finetune import finetune

    def evaluate(device: torch.device) -> dict[str, Any]:
        torch.manual_seed(0)
        backbone, normalize = build_backbone(tiny.model), Normalize(IMAGENET, device)
        p = tiny.finetune.training.model_copy(update={"epochs": 2, "crop_scale": (0.8, 1.0)})
        return at_once(lambda checkpoints: finetune(backbone, p, tiny.evaluation, 1, *digits, 0, normalize, checkpoints))

    scores(evaluate, 5.0)


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
