import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from rsa.data.batch import Batch
from rsa.data.normalize import Normalize
from rsa.data.samples import Samples
from rsa.methods import method_class
from rsa.methods.method import Method
from rsa.params.optimizer import SGD
from rsa.params.pretrain import Pretrain
from rsa.training.collapse import CollapseError
from rsa.training.loop import FLUSH_STEPS, Row, train
from rsa.training.optim import build_optimizer
from tests.conftest import IMAGENET
from tests.methods.networks import Backbone
from tests.methods.sections import SECTIONS, section

CPU = torch.device("cpu")
PRETRAIN = {
    "epochs": 4, "batch_size": 256, "warmup_epochs": 0, "precision": "float32", "accumulate": 1,
    "start": {"weights": "random", "file": "weights/none"},
    "collapse": {"after": 0.0, "min_std": 0.0, "min_rank": 0.0},
}  # fmt: skip
PLAIN = SGD(name="sgd", base_lr=0.1, momentum=0.0, weight_decay=0.0, clip_each=None, clip_norm=None)


def batches(views: int = 2, size: int = 4) -> Iterator[Batch]:
    """Random images of size 6."""
    generator = torch.Generator().manual_seed(0)
    for iteration in range(1000):
        images = [torch.randint(0, 256, (size, 6, 6, 3), dtype=torch.uint8, generator=generator) for _ in range(views)]
        boxes = np.tile(np.array([0, 0, 6, 6, 0]), (views, size, 1))
        yield Batch(iteration, Samples(np.arange(size), torch.arange(size) % 3, boxes, 0, 0), images)


class Recorder(Method):
    """A method that writes down what the loop asks of it and in which order."""

    def __init__(self, bad_step: int | None = None) -> None:
        super().__init__()
        self.backbone = torch.nn.Linear(1, 1)
        self.weight = torch.nn.Parameter(torch.tensor(1.0))
        self.calls: list[tuple[str, float]] = []
        self.bad_step = bad_step

    def before_step(self, progress: float) -> dict[str, float]:
        self.calls.append(("before_step", progress))
        return {"tau": progress / 2}

    def embed(self, views: list[Tensor], samples: Samples) -> tuple[tuple[Tensor]]:
        self.calls.append(("embed", float("nan")))
        assert len(samples.ids) == len(views[0])
        return ((views[0].flatten(1)[:, :2] * 0 + self.weight,),)  # (B, 2)

    def losses(self, embedded: tuple[tuple[Tensor]], progress: float) -> dict[str, Tensor]:
        self.calls.append(("losses", progress))
        step = sum(name == "losses" for name, _ in self.calls)
        x = embedded[0][0][:, 0]
        scale = torch.arange(len(x), dtype=torch.float32)  # the samples' losses differ: 0, 1, 2, 3
        return {"loss": x * scale * (math.nan if step == self.bad_step else 1), "half": x * scale / 2}

    def after_backward(self, embedded: object) -> None:
        self.calls.append(("observe", float("nan")))

    def after_step(self, progress: float) -> None:
        self.calls.append(("after_step", progress))


def run(
    method: Method, steps: int, schedule: SGD = PLAIN, views: int = 2, stop_on_collapse: bool = False, **pretrain: object
) -> list[Row]:
    rows: list[Row] = []
    optimizer = build_optimizer(method.parameters(), (), schedule)
    p = Pretrain.model_validate({**PRETRAIN, **pretrain})
    train(
        method, batches(views), optimizer, p, schedule,
        total_steps=steps, normalize=Normalize(IMAGENET, CPU), stop_on_collapse=stop_on_collapse, report=rows.extend,
    )  # fmt: skip
    return rows


def test_everything_sees_progress_of_step_plus_1_over_total():
    method = Recorder()
    run(method, 4)
    for name in ("before_step", "losses", "after_step"):
        assert [progress for called, progress in method.calls if called == name] == [0.25, 0.5, 0.75, 1.0]


def test_the_order_of_a_step():
    method = Recorder()
    run(method, 2)
    assert [name for name, _ in method.calls] == ["before_step", "embed", "losses", "observe", "after_step"] * 2
    method = Recorder()
    run(method, 2, accumulate=2)
    assert [name for name, _ in method.calls] == ["before_step", *["embed", "losses", "observe"] * 2, "after_step"] * 2


def test_rows_hold_step_rate_the_methods_numbers_and_mean_losses():
    first, last = run(Recorder(), 2, PLAIN.model_copy(update={"base_lr": 1e-9}))
    assert first == {"step": 1, "lr": pytest.approx(5e-10), "tau": 0.25, "loss": 1.5, "half": 0.75}
    assert {**last, "lr": 0} == {
        "step": 2, "lr": 0, "tau": 0.5, "loss": pytest.approx(1.5), "half": pytest.approx(0.75),
        "embedding_std": 0.0, "effective_rank": pytest.approx(1, abs=1e-5), "uniformity": pytest.approx(0, abs=1e-6),
    }  # fmt: skip


def test_learning_rate_of_a_step_is_used_in_that_step():
    """d loss / d weight is 1.5: the weights follow by hand from the rates in the rows."""
    rows = run(Recorder(), 3)
    assert [row["lr"] for row in rows] == pytest.approx([0.1 * (1 + math.cos(math.pi * p)) / 2 for p in (1 / 3, 2 / 3, 1)])
    weights = [1.0, 1 - rows[0]["lr"] * 1.5, 1 - rows[0]["lr"] * 1.5 - rows[1]["lr"] * 1.5]
    assert [row["loss"] for row in rows] == pytest.approx([1.5 * weight for weight in weights])


def test_a_collapse_stops_the_run_or_is_left_to_the_report():
    """The recorder's embeddings are all the same."""
    limits = {"after": 0.5, "min_std": 0.01, "min_rank": 1.5}
    with pytest.raises(CollapseError, match=r"collapsed at step 50: embedding_std must be at least 0.01 .* got 0"):
        run(Recorder(), 100, stop_on_collapse=True, collapse=limits)  # steps 25, 50, ... are looked at
    assert len(run(Recorder(), 100, collapse=limits)) == 100


@pytest.mark.parametrize("steps", [1, FLUSH_STEPS - 1, FLUSH_STEPS, FLUSH_STEPS + 1, 2 * FLUSH_STEPS])
def test_every_step_is_reported_once_and_in_order(steps: int):
    assert [row["step"] for row in run(Recorder(), steps)] == list(range(1, steps + 1))


@pytest.mark.parametrize("bad", [1, 3, FLUSH_STEPS + 2])
def test_loss_that_is_not_finite_stops_the_run_and_names_its_step(bad: int):
    with pytest.raises(FloatingPointError, match=rf"`loss` must be finite, got nan at step {bad}: lower optimizer.base_lr"):
        run(Recorder(bad_step=bad), FLUSH_STEPS + 5)


def trained(name: str, **pretrain: object) -> tuple[dict[str, Tensor], list[Row]]:
    torch.manual_seed(0)
    p = section(name)
    method = method_class(name)(Backbone(), p).train()
    return method.state_dict(), run(method, 6, PLAIN, {"rsa": 4, "supervised": 1}.get(name, 2), **pretrain)


CONVOLUTIONAL = [name for name in SECTIONS if name != "ibot"]


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_two_runs_are_identical_to_the_bit(name: str):
    (first, rows), (second, rows_again) = trained(name), trained(name)
    assert rows == rows_again
    assert all(torch.equal(tensor, second[key]) for key, tensor in first.items())


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_training_changes_the_backbone_and_its_target(name: str):
    torch.manual_seed(0)
    before = method_class(name)(Backbone(), section(name)).state_dict()
    after, _ = trained(name)
    moving = [key for key in before if key.endswith("backbone.conv.weight")]
    assert moving
    assert all(not torch.equal(after[key], before[key]) for key in moving)


def test_bf16_keeps_weights_and_losses_in_float32():
    state, rows = trained("rsa", precision="bf16")
    assert {tensor.dtype for tensor in state.values()} == {torch.float32, torch.int64}
    exact = trained("rsa")[1]
    assert rows != exact  # bf16 was used ...
    assert rows[0]["loss"] == pytest.approx(exact[0]["loss"], abs=0.05)  # ... for the same loss, from which steps lead apart
