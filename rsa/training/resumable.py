"""A training in one process that continues from its last checkpoint to the bit: linear classifiers, fine-tuning, detectors."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from rsa.training.checkpoint import Checkpoints, Preempted, catch_signals, load_training_state, training_state
from rsa.training.progress import ProgressDisplay

SHOWN_STEPS = 25  # steps between transfers of a loss from the device


class Resumable:
    """The steps of a training: iterating yields the numbers, from 0, of those that remain.

    `kept` holds whatever else belongs to the state, as torch.load reads it; a checkpoint's values replace those given. The
    state is saved when a checkpoint is due, after the last step and after SIGTERM or Ctrl-C, which then raise Preempted.
    """

    def __init__(
        self,
        label: str,
        checkpoints: Checkpoints,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        steps: int,
        batch_size: int,
        kept: dict[str, Any] | None = None,
    ) -> None:
        self.label, self.checkpoints, self.model, self.optimizer, self.steps = label, checkpoints, model, optimizer, steps
        self.kept = kept or {}
        self.start = 0
        saved = checkpoints.load(torch.device("cpu"))
        if saved is not None:
            self.start, self.kept = saved["step"], saved["kept"]
            load_training_state(saved, model, optimizer)
        self.progress = ProgressDisplay(label, self.start, steps, batch_size)

    def __iter__(self) -> Iterator[int]:
        with catch_signals() as terminated:
            for step in range(self.start, self.steps):
                yield step
                done = step + 1
                if (stop := terminated()) or self.checkpoints.due(done) or done == self.steps:
                    state = training_state(self.model, self.optimizer)
                    self.checkpoints.save(done, {"step": done, "kept": self.kept, **state})
                if stop:
                    print(f"{self.label}  stopped after step {done}: run again to continue", flush=True)
                    raise Preempted
        self.progress.close()

    def shows(self, step: int) -> bool:
        """Return True at the steps whose loss is worth a transfer from the device."""
        return (step + 1) % SHOWN_STEPS == 0 or step + 1 == self.steps

    def show(self, step: int, **terms: float) -> None:
        """Display the state after `step`."""
        self.progress.show({"step": step + 1, **terms})
