"""The training loop. Only the loop knows the step; everything else sees progress = (step + 1) / total_steps."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from rsa import distributed
from rsa.data.batch import Batch
from rsa.data.normalize import Normalize
from rsa.data.samples import Samples
from rsa.params.optimizer import Optimizer
from rsa.params.pretrain import Pretrain
from rsa.training.collapse import Health, health, require_health
from rsa.training.curve import Row
from rsa.training.forward import forward_of_ranks
from rsa.training.optim import clip_gradients, set_schedules

FLUSH_STEPS = 25  # steps between transfers of the losses from the device and between checks for collapse


class Method(Protocol):
    """The interface that the loop needs of a method, see rsa.methods.method."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Return all parameters."""

    def before_step(self, progress: float) -> dict[str, float | Tensor]:
        """Update state before the forward pass; returned scalars are logged."""

    def embed(self, views: list[Tensor], samples: Samples) -> Any:
        """Embed the views."""

    def losses(self, embedded: Any, progress: float) -> dict[str, Tensor]:
        """Return the loss of each sample."""

    def describe(self, views: list[Tensor], samples: Samples) -> dict[str, Tensor]:
        """Return further terms for the curve, at intervals."""

    def after_backward(self, embedded: Any) -> None:
        """Use each micro-batch's embeddings after the backward pass."""

    def after_step(self, progress: float) -> None:
        """Update state after the optimiser step."""


def train(
    method: Method,
    batches: Iterable[Batch],
    optimizer: torch.optim.Optimizer,
    p: Pretrain,
    schedule: Optimizer,
    *,
    total_steps: int,
    normalize: Normalize,
    stop_on_collapse: bool,
    report: Callable[[list[Row]], None],
    start: int = 0,
    pending: Sequence[Row] = (),
    probe: Callable[[int], Row] = lambda step: {},
    step_done: Callable[[int, Callable[[], list[Row]]], None] = lambda step, rows: None,
) -> None:
    """Train from step `start` to `total_steps`; the first of `batches` belongs to step `start`.

    `report` receives the curve's rows in blocks, beginning with the `pending` rows of an earlier process. `probe` returns further
    terms of the row of the step that has this number. `step_done` receives the number of each finished step and a function that
    returns the rows not yet reported.
    Raises FloatingPointError with the step and term of a non-finite loss, CollapseError with the step of a collapse.
    """
    forward: Any = forward_of_ranks(method, p.precision)
    unreported: list[dict[str, float | Tensor]] = [dict(row) for row in pending]
    for step, batch in zip(range(start, total_steps), batches, strict=False):
        progress = (step + 1) / total_steps
        row: dict[str, float | Tensor] = {"step": step + 1, **set_schedules(optimizer, schedule, p, progress)}
        row |= method.before_step(progress)
        optimizer.zero_grad()
        for number, micro_batch in enumerate(batch.micro_batches(p.accumulate), 1):
            views = [normalize(view) for view in micro_batch.views]
            last = number == p.accumulate or not isinstance(forward, DistributedDataParallel)
            with nullcontext() if last else forward.no_sync():  # gradients are averaged over ranks once a step
                losses, embedded = forward(views, micro_batch.samples, progress, 1 / p.accumulate)
                losses["loss"].backward()
            method.after_backward(embedded)
            for name, value in losses.items():
                row[name] = row.get(name, 0.0) + value.detach()
        clip_gradients(method.parameters(), schedule)
        optimizer.step()
        method.after_step(progress)
        row |= probe(step + 1)
        unreported.append(row)
        if (step + 1) % FLUSH_STEPS == 0 or step + 1 == total_steps:
            unreported[-1] |= health(distributed.all_gather_with_grad(embedded[0][0].detach()))
            unreported[-1] |= {name: values.mean() for name, values in method.describe(views, micro_batch.samples).items()}
            rows = _finite_rows(unreported)
            report(rows)
            unreported.clear()
            if stop_on_collapse and progress >= p.collapse.after:
                require_health(Health(*(rows[-1][name] for name in Health._fields)), p.collapse, step + 1)
        step_done(step + 1, lambda: _finite_rows(unreported))


def _finite_rows(unreported: list[dict[str, float | Tensor]]) -> list[Row]:
    """Convert rows to numbers averaged over ranks, with one transfer from the device."""
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
