"""Steps of every method of every recipe on a GPU: the CPU's losses, and the same bits again and after a resume."""

import shutil
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from rsa import recipes
from rsa.data.normalize import Normalize
from rsa.models.backbones import compile_copies
from rsa.params.document import Params
from rsa.training.checkpoint import Checkpoints, load_training_state, training_state
from rsa.training.loop import train
from tests.evaluation.killed import equal
from tests.gpu.device import CPU, GPU
from tests.training.operators import batches, built, small_recipe

EVERY = [(recipe, method) for recipe in recipes.names() for method in recipes.load_recipe(recipe).trained]
STEPS, BATCH = 3, 8


def what_is_trained(recipe: str, method: str) -> str:
    """What tells a small method apart: recipes share many."""
    p = small_recipe(recipe)
    return repr((p.methods[method], p.model, p.views.size, p.pretrain))


METHODS = list({what_is_trained(*each): each for each in reversed(EVERY)}.values())


class Training:
    """A method with its optimiser, built from a seed, and its losses."""

    def __init__(self, p: Params, name: str, device: torch.device, *, compiled: bool = False, **pretrain: Any) -> None:
        self.pretrain = p.pretrain.model_copy(update={"accumulate": 1, **pretrain})
        self.schedule = p.methods[name].optimizer
        self.method, self.recipe, self.optimizer = built(p, name)
        self.method.to(device)
        self.normalize = Normalize(p.views.normalize, device)
        self.losses: list[float] = []
        if compiled:
            compile_copies(self.method, self.method.backbone)

    def steps(self, first: int, last: int) -> "Training":
        if first == 0:
            torch.manual_seed(0)  # of stochastic depth
        train(
            self.method, islice(batches(self.recipe, BATCH), first, last), self.optimizer, self.pretrain, self.schedule,
            total_steps=STEPS, normalize=self.normalize, start=first, stop_on_collapse=False,
            report=lambda rows: self.losses.extend(row["loss"] for row in rows),
        )  # fmt: skip
        return self

    def state(self) -> dict[str, Any]:
        return training_state(self.method, self.optimizer)


def without_chance(p: Params) -> Params:
    """Without stochastic depth, which a GPU draws from a generator of its own."""
    arguments = {key: value for key, value in p.model.backbone_args.items() if key != "drop_path_rate"}
    return p.model_copy(update={"model": p.model.model_copy(update={"backbone_args": arguments})})


def losses(p: Params, name: str, dtype: torch.dtype, device: torch.device, **pretrain: Any) -> list[float]:
    torch.set_default_dtype(dtype)
    try:
        return Training(p, name, device, precision="float32", **pretrain).steps(0, STEPS).losses  # no autocast
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(("recipe", "name"), METHODS)
def test_losses_are_the_cpus(recipe: str, name: str):
    """In float64; in float32 before the first update, after which small networks and hard choices amplify rounding.

    Operators disturbed by 1e-14 and 4e-6 on a CPU moved these losses by 5e-11 and 1e-4 at most.
    """
    p = without_chance(small_recipe(recipe))
    assert losses(p, name, torch.float64, GPU) == pytest.approx(losses(p, name, torch.float64, CPU), rel=1e-7, abs=1e-9)
    (got, *_), (want, *_) = (losses(p, name, torch.float32, device) for device in (GPU, CPU))
    assert got == pytest.approx(want, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize(("recipe", "name"), METHODS)
def test_a_run_repeats_and_continues_in_the_same_bits(recipe: str, name: str, precision: str, tmp_path: Path):
    p, checkpoints = small_recipe(recipe), Checkpoints(tmp_path, 1, 1)
    straight, again, first, second = (Training(p, name, GPU, precision=precision) for _ in range(4))
    want = straight.steps(0, STEPS).state()
    assert equal(again.steps(0, STEPS).state()["model"], want["model"])
    checkpoints.save(2, first.steps(0, 2).state())
    torch.manual_seed(99)
    saved = checkpoints.load(CPU)
    assert saved is not None
    load_training_state(saved, second.method, second.optimizer)
    assert equal(second.steps(2, STEPS).state(), want)


def test_accumulated_losses_are_the_cpus():
    got, want = (losses(small_recipe("cifar10"), "rsa", torch.float64, device, accumulate=2) for device in (GPU, CPU))
    assert got == pytest.approx(want, rel=1e-7, abs=1e-9)


@pytest.mark.skipif(not (shutil.which("cc") or shutil.which("gcc")), reason="torch.compile needs a C compiler: there is none")
@pytest.mark.filterwarnings("ignore")  # of the compiler's own code
def test_a_compiled_backbone_trains_as_a_plain_one_does():
    p = small_recipe("cifar10")
    got, want = (
        Training(p, "byol", GPU, compiled=compiled, precision="float32").steps(0, STEPS).losses for compiled in (True, False)
    )
    assert got == pytest.approx(want, rel=2e-3)


def test_images_of_the_cpu_come_through_pinned_memory_unchanged():
    images, p = torch.randint(0, 256, (4, 8, 8, 3), dtype=torch.uint8), small_recipe("cifar10").views.normalize
    there = Normalize(p, GPU)(images)
    assert there.device.type == GPU.type
    torch.testing.assert_close(there.cpu(), Normalize(p, CPU)(images))
