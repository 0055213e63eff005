import math
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from rsa.methods import METHODS
from rsa.params import Params
from rsa.training.loop import FLUSH_STEPS, Row, train
from rsa.training.optim import build_optimizer
from tests.methods.networks import Backbone

CPU = torch.device("cpu")


def batches(views: int = 2, size: int = 4) -> Iterator[SimpleNamespace]:
    """What the loop reads of a batch."""
    generator = torch.Generator().manual_seed(0)
    while True:
        images = [torch.randint(0, 256, (size, 6, 6, 3), dtype=torch.uint8, generator=generator) for _ in range(views)]
        yield SimpleNamespace(views=images)


class Recorder(nn.Module):
    """A method that writes down what the loop asks of it and in which order."""

    def __init__(self, bad_step: int | None = None) -> None:
        super().__init__()
        self.backbone = nn.Linear(1, 1)
        self.weight = nn.Parameter(torch.tensor(1.0))
        self.calls: list[tuple[str, float]] = []
        self.bad_step = bad_step

    def before_step(self, progress: float) -> dict[str, float]:
        self.calls.append(("before_step", progress))
        return {"tau": progress / 2}

    def embed(self, views: list[Tensor]) -> Tensor:
        self.calls.append(("embed", float("nan")))
        return views[0].flatten(1).mean(1) * 0 + self.weight  # (B,)

    def losses(self, embedded: Tensor, progress: float) -> dict[str, Tensor]:
        self.calls.append(("losses", progress))
        step = sum(name == "losses" for name, _ in self.calls)
        scale = torch.arange(len(embedded), dtype=torch.float32)  # the samples' losses differ: 0, 1, 2, 3
        return {"loss": embedded * scale * (math.nan if step == self.bad_step else 1), "half": embedded * scale / 2}


def run(method: nn.Module, steps: int, lr=lambda progress: 0.0, views: int = 2) -> list[Row]:
    rows: list[Row] = []
    optimizer = torch.optim.SGD(method.parameters(), lr=99.0)
    train(method, batches(views), optimizer, lr, total_steps=steps, device=CPU, bf16=False, report=rows.extend)
    return rows


def test_everything_sees_progress_of_step_plus_1_over_total():
    method, rates = Recorder(), []
    run(method, 4, lambda progress: rates.append(progress) or 0.0)
    assert rates == [0.25, 0.5, 0.75, 1.0]
    for name in ("before_step", "losses"):
        assert [progress for called, progress in method.calls if called == name] == [0.25, 0.5, 0.75, 1.0]


def test_the_target_moves_before_the_loss_of_the_step():
    method = Recorder()
    run(method, 2)
    assert [name for name, _ in method.calls] == ["before_step", "embed", "losses"] * 2


def test_rows_hold_step_rate_the_methods_numbers_and_mean_losses():
    rows = run(Recorder(), 2, lambda progress: progress * 0)
    assert rows == [
        {"step": 1, "lr": 0.0, "tau": 0.25, "loss": 1.5, "half": 0.75},
        {"step": 2, "lr": 0.0, "tau": 0.5, "loss": 1.5, "half": 0.75},
    ]


def test_learning_rate_of_a_step_is_used_in_that_step():
    """d loss / d weight is 1.5: the weights follow by hand, and the optimiser's own rate of 99 is never used."""
    rows = run(Recorder(), 3, lambda progress: 0.3 * progress)
    weights = [1.0, 1 - 0.1 * 1.5, 1 - 0.1 * 1.5 - 0.2 * 1.5]
    assert [row["loss"] for row in rows] == pytest.approx([1.5 * weight for weight in weights])


@pytest.mark.parametrize("steps", [1, FLUSH_STEPS - 1, FLUSH_STEPS, FLUSH_STEPS + 1, 2 * FLUSH_STEPS])
def test_every_step_is_reported_once_and_in_order(steps: int):
    assert [row["step"] for row in run(Recorder(), steps)] == list(range(1, steps + 1))


@pytest.mark.parametrize("bad", [1, 3, FLUSH_STEPS + 2])
def test_loss_that_is_not_finite_stops_the_run_and_names_its_step(bad: int):
    with pytest.raises(FloatingPointError, match=rf"`loss` must be finite, got nan at step {bad}: lower optimizer.base_lr"):
        run(Recorder(bad_step=bad), FLUSH_STEPS + 5)


def trained(tiny: Params, name: str, bf16: bool = False) -> tuple[dict[str, Tensor], list[Row]]:
    torch.manual_seed(0)
    method = METHODS[name](Backbone(), tiny.methods[name]).train()
    rows: list[Row] = []
    optimizer = build_optimizer(method, tiny.methods[name].optimizer)
    views = batches(len(METHODS[name].recipe(tiny.views).views))
    train(method, views, optimizer, lambda p: 0.1 * p, total_steps=6, device=CPU, bf16=bf16, report=rows.extend)
    return method.state_dict(), rows


@pytest.mark.parametrize("name", METHODS)
def test_two_runs_are_identical_to_the_bit(tiny: Params, name: str):
    (first, rows), (second, rows_again) = trained(tiny, name), trained(tiny, name)
    assert rows == rows_again
    assert all(torch.equal(tensor, second[key]) for key, tensor in first.items())


@pytest.mark.parametrize("name", METHODS)
def test_training_changes_online_and_target_weights(tiny: Params, name: str):
    torch.manual_seed(0)
    before = METHODS[name](Backbone(), tiny.methods[name]).state_dict()
    after, _ = trained(tiny, name)
    for key in ("backbone.conv.weight", "target_backbone.conv.weight", "predictor.0.weight"):
        assert not torch.equal(after[key], before[key])


def test_bf16_keeps_weights_and_losses_in_float32(tiny: Params):
    state, rows = trained(tiny, "rsa", bf16=True)
    assert {tensor.dtype for tensor in state.values()} == {torch.float32, torch.int64}
    exact = trained(tiny, "rsa")[1]
    assert rows != exact  # bf16 was used ...
    assert [row["loss"] for row in rows] == pytest.approx([row["loss"] for row in exact], abs=0.3)  # ... for the same loss
