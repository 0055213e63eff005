"""The training loop, one screen: it owns the step; everything else sees progress = (step + 1) / total_steps."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from rsa import distributed
from rsa.data.loader import Batch
from rsa.data.normalize import as_input
from rsa.data.samples import Samples
from rsa.params.optimizer import Optimizer
from rsa.params.pretrain import Pretrain
from rsa.training.collapse import health, require_health
from rsa.training.curve import Row
from rsa.training.optim import clip_gradients, set_schedules

FLUSH_STEPS = 25  # steps between reads of the losses from the device, and between looks at the embeddings


class Method(Protocol):
    """What the loop asks of a method, see rsa.methods.method."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """All of them."""

    def before_step(self, progress: float) -> dict[str, float | Tensor]:
        """Before the loss."""

    def embed(self, views: list[Tensor], samples: Samples) -> Any:
        """Views to embeddings."""

    def losses(self, embedded: Any, progress: float) -> dict[str, Tensor]:
        """Embeddings to a loss per sample."""

    def describe(self, views: list[Tensor], samples: Samples) -> dict[str, Tensor]:
        """Further terms, now and then."""

    def after_backward(self, embedded: Any) -> None:
        """After the backward pass of a part."""

    def after_step(self, progress: float) -> None:
        """After the optimiser."""


def train(
    method: Method,
    batches: Iterable[Batch],
    optimizer: torch.optim.Optimizer,
    p: Pretrain,
    schedule: Optimizer,
    *,
    total_steps: int,
    device: torch.device,
    stop_on_collapse: bool,
    report: Callable[[list[Row]], None],
    start: int = 0,
    pending: Sequence[Row] = (),
    step_done: Callable[[int, Callable[[], list[Row]]], None] = lambda step, rows: None,
) -> None:
    """Train from step `start` to `total_steps`, the first of `batches` being the first of these steps.

    `report` gets the curve's rows, a few at a time, the first time after `pending` ones of an earlier process; `step_done`
    gets each step's number, and a function that returns the rows not reported yet.
    FloatingPointError names the step and the term of a non-finite loss, CollapseError the step of a collapse.
    """
    unreported: list[dict[str, float | Tensor]] = [dict(row) for row in pending]
    for step, batch in zip(range(start, total_steps), batches, strict=False):
        progress = (step + 1) / total_steps
        row: dict[str, float | Tensor] = {"step": step + 1, **set_schedules(optimizer, schedule, p, progress)}
        row |= method.before_step(progress)
        optimizer.zero_grad()
        for part in batch.micro_batches(p.accumulate):
            views = [as_input(view, device) for view in part.views]
            with torch.autocast(device.type, torch.bfloat16, enabled=p.precision == "bf16"):
                embedded = method.embed(views, part.samples)
            losses = {name: values.mean() / p.accumulate for name, values in method.losses(embedded, progress).items()}
            losses["loss"].backward()  # type: ignore[no-untyped-call]
            method.after_backward(embedded)
            for name, value in losses.items():
                row[name] = row.get(name, 0.0) + value.detach()
        distributed.average_gradients(method.parameters())
        if schedule.clip_each is not None:
            clip_gradients(method.parameters(), schedule.clip_each)
        optimizer.step()
        method.after_step(progress)
        unreported.append(row)
        if (step + 1) % FLUSH_STEPS == 0 or step + 1 == total_steps:
            rows = _finite_rows(unreported)
            found = health(distributed.all_gather_with_grad(embedded[0][0].detach()))
            described = method.describe(views, part.samples)
            rows[-1] |= found._asdict() | {
                name: float(distributed.all_reduce_mean(values.mean())) for name, values in described.items()
            }
            report(rows)
            unreported.clear()
            if stop_on_collapse and progress >= p.collapse.after:
                require_health(found, p.collapse, step + 1)
        step_done(step + 1, lambda: _finite_rows(unreported))


def _finite_rows(unreported: list[dict[str, float | Tensor]]) -> list[Row]:
    """The rows as numbers, averaged over ranks, in one transfer."""
    tensors = [value.double().flatten()[0] for row in unreported for value in row.values() if isinstance(value, Tensor)]
    numbers = iter(distributed.all_reduce_mean(torch.stack(tensors)).tolist() if tensors else [])
    rows = [{name: next(numbers) if isinstance(value, Tensor) else value for name, value in row.items()} for row in unreported]
    for row in rows:
        for name, value in row.items():
            if not math.isfinite(value):
                raise FloatingPointError(
                    f"`{name}` must be finite, got {value} at step {row['step']:.0f}: "
                    "lower optimizer.base_lr, lengthen pretrain.warmup_epochs or use precision float32"
                )
    return rows
