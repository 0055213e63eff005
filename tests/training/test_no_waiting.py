"""A step does not wait for its device: it runs on torch's `meta` device, which has no numbers to read."""

from collections.abc import Callable
from contextlib import nullcontext
from itertools import islice

import pytest
import torch

from rsa.data.normalize import Normalize
from rsa.methods import build_method
from rsa.models.backbones import build_backbone
from rsa.training import loop
from rsa.training.optim import build_optimizer
from tests.training.operators import batches, small_recipe

RESNETS = ("byol", "rsa", "rsa_hard", "simsiam", "simclr", "barlow_twins", "moco_v3", "supervised")
METHODS = [("cifar10_methods", name) for name in RESNETS]
METHODS += [("imagenet_hard_dino", "dino_hard"), ("imagenet_hard_ibot", "ibot_hard"), ("imagenet_byol", "byol")]  # AdamW, LARS
META = torch.device("meta")


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, int], None]:
    """Trains a method for so many steps; the third is the first after which numbers are read."""
    monkeypatch.setattr(loop, "FLUSH_STEPS", 3)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # which knows no meta
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda _: False)

    def train(recipe: str, name: str, steps: int) -> None:
        p = small_recipe(recipe)
        section = p.methods[name]
        with META:
            method, views = build_method(section, build_backbone(p.model), p.views)
        optimizer = build_optimizer(method.train().parameters(), method.constant_lr(), section.optimizer)
        pretrain = p.pretrain.model_copy(update={"accumulate": 1, "precision": "float32"})
        normalize = Normalize(p.views.normalize, META)
        loop.train(
            method, islice(batches(views, 4), steps), optimizer, pretrain, section.optimizer,
            total_steps=100, normalize=normalize, stop_on_collapse=False, report=lambda rows: None,
        )  # fmt: skip

    return train


@pytest.mark.parametrize(("recipe", "name"), METHODS)
def test_no_step_reads_a_number_from_its_device(recipe: str, name: str, train: Callable[[str, str, int], None]):
    train(recipe, name, 2)


def test_the_losses_of_several_steps_are_read_at_once(train: Callable[[str, str, int], None]):
    with pytest.raises((NotImplementedError, RuntimeError), match="meta"):
        train("cifar10_methods", "byol", 3)
