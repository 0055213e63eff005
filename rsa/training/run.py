"""One run of a method as one of its ranks sees it: where it continues, its checkpoints, snapshots and curve."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rsa import distributed
from rsa.data.loader import Position, TrainingViews
from rsa.params.optimizer import Optimizer
from rsa.params.pretrain import Pretrain
from rsa.params.runtime import Runtime
from rsa.training.checkpoint import Checkpoints, Preempted, catch_signals, load_training_state, training_state
from rsa.training.curve import Curve, Row
from rsa.training.live import Live
from rsa.training.loop import train
from rsa.training.progress import ProgressDisplay

LoadViews = Callable[[int], TrainingViews]  # from a step on


@dataclass
class Run:
    """What is trained, how, and where it leaves its files: curve.csv, snapshots/STEP.safetensors and checkpoints in `work`."""

    name: str
    model: Any  # a method: see rsa.training.loop.Method
    optimizer: torch.optim.Optimizer
    schedule: Optimizer
    pretrain: Pretrain
    runtime: Runtime
    device: torch.device
    work: Path
    save_encoder: Callable[[Path, float], None]  # the path, and the share of training that is done

    def __post_init__(self) -> None:
        self.first = distributed.rank() == 0
        self.curve = Curve(self.work / "curve.csv")
        self.checkpoints = Checkpoints(self.work, self.runtime.checkpoint.steps, self.runtime.checkpoint.minutes)

    def train(self, load_views: LoadViews) -> int:
        """Train from the newest checkpoint, or from the beginning, to the end; returns the number of steps in all.

        Preempted, after a checkpoint, where SIGTERM or Ctrl-C comes.
        """
        saved = self._saved()
        start = saved["step"]
        views = load_views(start)
        if start:
            views.position(start).require_same_data(Position(**saved["position"]))
        self.views, self.total_steps = views, self.pretrain.epochs * views.steps_per_epoch
        self.snapshots = {round(share * self.total_steps): share for share in self.runtime.snapshots}
        self.progress = ProgressDisplay(self.name, start, self.total_steps, self.pretrain.batch_size, shown=self.first)
        if self.first:
            self.curve.cut(saved["curve_size"])
            self.live = Live(self.name.replace(" ", "_"), self.curve.path, tensorboard=self.runtime.logging.tensorboard)
        if start == 0:
            self._snapshot(0)
        with catch_signals() as self.terminated:
            train(
                self.model,
                views,
                self.optimizer,
                self.pretrain,
                self.schedule,
                total_steps=self.total_steps,
                device=self.device,
                stop_on_collapse=self.runtime.on_collapse == "stop",
                report=self._report,
                start=start,
                pending=saved["unreported"],
                step_done=self._step_done,
            )
        self.progress.close()
        if self.first:
            self.live.close()
        return self.total_steps

    def _saved(self) -> dict[str, Any]:
        """The state of the newest checkpoint, put back into model and optimiser; step 0 where there is none."""
        saved = distributed.broadcast_from_rank0(
            lambda: self.checkpoints.load(torch.device("cpu"))
        )  # another node may not see it yet
        if saved is None:
            return {"step": 0, "unreported": [], "curve_size": 0}
        load_training_state(saved, self.model, self.optimizer)
        return saved

    def _report(self, rows: list[Row]) -> None:
        if self.first:
            self.curve.append(rows)
            self.live.show(rows)
        self.progress.show(rows[-1])

    def _step_done(self, step: int, unreported: Callable[[], list[Row]]) -> None:
        self._snapshot(step)  # before the checkpoint: a run that continues there has it
        stop = distributed.any_rank(self.terminated())
        if distributed.any_rank(self.checkpoints.due(step)) or stop:
            state = {"step": step, "unreported": unreported(), "position": asdict(self.views.position(step))}
            state |= training_state(self.model, self.optimizer)
            if self.first:
                self.checkpoints.save(step, state | {"curve_size": self.curve.size})
        if stop:
            if self.first:
                print(f"{self.name}  stopped after step {step}: run again to continue", flush=True)
            raise Preempted

    def _snapshot(self, step: int) -> None:
        if self.first and step in self.snapshots:
            (self.work / "snapshots").mkdir(exist_ok=True)
            self.save_encoder(self.work / "snapshots" / f"{step:08d}.safetensors", self.snapshots[step])


def prepare(model: nn.Module, device: torch.device) -> None:
    """Move a model to its device, in the memory order that convolutions like, and let it train."""
    model.to(device).to(memory_format=torch.channels_last).train()
