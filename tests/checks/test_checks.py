"""The checks of `rsa doctor` can fail."""

import pytest
import torch
from torchvision.transforms.v2.functional import resized_crop

from rsa.checks import machine, training, views
from rsa.checks.outcome import FailedError
from rsa.params.document import Params
from rsa.training.checkpoint import load_training_state


def test_a_resume_that_loses_something_fails(tiny: Params, monkeypatch: pytest.MonkeyPatch):
    def forgetful(state, model, optimizer):
        load_training_state(state, model, optimizer)
        optimizer.state.clear()  # momentum

    monkeypatch.setattr(training, "load_training_state", forgetful)
    with pytest.raises(FailedError, match=r"byol: \d+ tensors differ"):
        training.resuming(tiny)


def test_wrong_colours_fail(tiny: Params, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(views, "apply_colors", lambda images, colors: torch.zeros_like(images))
    with pytest.raises(FailedError, match="mean difference from torchvision up to"):
        views.colors(tiny)


def test_a_crop_that_is_not_flipped_fails(tiny: Params, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(views.tv, "resized_crop", lambda image, *box: resized_crop(image.flip(1), *box))
    with pytest.raises(FailedError, match=r"an image differs from torchvision's by \d+\.\d+ of 255 on average"):
        views.crops(tiny)


def test_more_memory_than_there_is_fails(tiny: Params, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(training, "available", lambda: 1_000_000)
    with pytest.raises(FailedError, match=r"byol \d\.\d+ GB, rsa .* GB free here: raise pretrain.accumulate or lower"):
        training.memory(tiny)


def test_memory_grows_with_the_batch_and_shrinks_with_its_parts(tiny: Params, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(training, "available", lambda: 10**15)
    alone = tiny.experiment.model_copy(update={"methods": ["pixels", "byol"]})

    def gigabytes(**changes: object) -> float:
        p = tiny.model_copy(update={"experiment": alone, "pretrain": tiny.pretrain.model_copy(update=changes)})
        found = training.memory(p)
        assert "pixels" not in found  # which trains nothing
        return float(found.removeprefix("byol ").partition(" GB for ")[0])

    whole, parts = gigabytes(batch_size=65536), gigabytes(batch_size=65536, accumulate=4)
    assert whole > 2 * parts > 0


def test_a_full_disk_fails(tiny: Params, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(machine, "FREE_GB", 1e9)
    with pytest.raises(FailedError, match="GB free here, at least"):
        machine.disk(tiny)
