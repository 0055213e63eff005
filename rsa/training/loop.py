"""The training loop, one screen: it owns the step; everything else sees progress = (step + 1) / total_steps."""

import math
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from rsa.data.loader import Batch
from rsa.data.normalize import as_input

Row = dict[str, float]
FLUSH_STEPS = 25  # steps between reads of the losses from the device


class Method(Protocol):
    """What the loop asks of a method."""

    backbone: nn.Module

    def parameters(self) -> Iterable[nn.Parameter]:
        """Every parameter; those that want no gradient belong to target networks."""

    def embed(self, views: list[Tensor]) -> Any:
        """Every view (B, 3, H, W) forwarded once."""

    def losses(self, embedded: Any, progress: float) -> dict[str, Tensor]:
        """`loss`, of which the batch's is the mean, and further terms for the curve; each (B,)."""

    def before_step(self, progress: float) -> dict[str, float]:
        """Move target networks; what it returns goes into the curve."""


def train(
    method: Method,
    batches: Iterable[Batch],
    optimizer: torch.optim.Optimizer,
    learning_rate: Callable[[float], float],
    *,
    total_steps: int,
    device: torch.device,
    bf16: bool,
    report: Callable[[list[Row]], None],
) -> None:
    """Train for `total_steps` batches; `report` gets the curve's rows, a few at a time.

    FloatingPointError names the step of a non-finite loss.
    """
    pending: list[tuple[Row, dict[str, Tensor]]] = []
    for step, batch in zip(range(total_steps), batches, strict=False):
        progress = (step + 1) / total_steps
        lr = learning_rate(progress)
        for group in optimizer.param_groups:
            group["lr"] = lr
        numbers = method.before_step(progress)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            embedded = method.embed([as_input(view, device) for view in batch.views])
        losses = {name: values.mean() for name, values in method.losses(embedded, progress).items()}
        optimizer.zero_grad()
        losses["loss"].backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        pending.append(({"step": step + 1, "lr": lr, **numbers}, {name: value.detach() for name, value in losses.items()}))
        if len(pending) == FLUSH_STEPS or step + 1 == total_steps:
            report(_rows(pending))
            pending.clear()


def _rows(pending: list[tuple[Row, dict[str, Tensor]]]) -> list[Row]:
    values = torch.stack([torch.stack(list(losses.values())) for _, losses in pending]).tolist()  # one transfer for all
    rows = []
    for (numbers, losses), terms in zip(pending, values, strict=True):
        row = {**numbers, **dict(zip(losses, terms, strict=True))}
        for name, value in row.items():
            if not math.isfinite(value):
                raise FloatingPointError(
                    f"`{name}` must be finite, got {value} at step {numbers['step']:.0f}: "
                    "lower optimizer.base_lr, lengthen pretrain.warmup_epochs or use precision float32"
                )
        rows.append(row)
    return rows
