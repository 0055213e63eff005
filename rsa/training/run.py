"""One rank of a training run: resuming, checkpoints, snapshots and the curve."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from rsa import distributed
from rsa.data.batch import Position
from rsa.data.files import sha256
from rsa.data.normalize import Normalize
from rsa.params.optimizer import Optimizer
from rsa.params.pretrain import Pretrain
from rsa.params.runtime import Runtime
from rsa.training.checkpoint import Checkpoints, Preempted, catch_signals, load_training_state, training_state
from rsa.training.curve import Curve, Row
from rsa.training.live import Live
from rsa.training.loop import train
from rsa.training.progress import ProgressDisplay

if TYPE_CHECKING:  # its module needs DALI, training does not
    from rsa.data.loader import TrainingViews

ONLINE = ("online_knn", "online_linear")  # columns of the online probe: see rsa.evaluation.online_probe
LoadViews = Callable[[int], "TrainingViews"]  # argument: the first step


@dataclass
class Run:
    """A training run. It writes curve.csv, snapshots/STEP.safetensors and checkpoints to `work`."""

    name: str
    model: Any  # a method: see rsa.training.loop.Method
    optimizer: torch.optim.Optimizer
    schedule: Optimizer
    pretrain: Pretrain
    runtime: Runtime
    normalize: Normalize
    work: Path
    save_encoder: Callable[[Path, float], None]  # arguments: the path, and the fraction of training done
    online_probe: Callable[[], Row] | None = None  # returns ONLINE; the first rank alone calls it

    def __post_init__(self) -> None:
        self.first = distributed.rank() == 0
        self.any_rank = distributed.AnyRank()
        self.curve = Curve(self.work / "curve.csv", ONLINE if self.online_probe else ())
        self.checkpoints = Checkpoints(self.work, self.runtime.checkpoint.steps, self.runtime.checkpoint.minutes)

    def train(self, load_views: LoadViews) -> int:
        """Train from the newest checkpoint, or from the beginning, to the end; return the total number of steps.

        Raises Preempted after SIGTERM or Ctrl-C, once a checkpoint is written.
        """
        saved = self._saved()
        start = saved["step"]
        views = load_views(start)
        if start:
            views.position(start).require_same_data(Position(**saved["position"]))
        self.digests: dict[str, str] = saved["snapshots"]  # of the snapshots, by name
        self.views, self.total_steps = views, self.pretrain.epochs * views.steps_per_epoch
        self.snapshots = {round(share * self.total_steps): share for share in self.runtime.snapshots}
        self.progress = ProgressDisplay(self.name, start, self.total_steps, self.pretrain.batch_size, shown=self.first)
        if self.first:
            self.curve.restore(saved["curve"])
            self.live = Live(self.name.replace(" ", "_"), self.curve.path, self.runtime.logging)
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
                normalize=self.normalize,
                stop_on_collapse=self.runtime.on_collapse == "stop",
                report=self._report,
                start=start,
                pending=saved["unreported"],
                probe=self._probe,
                step_done=self._step_done,
            )
        self.any_rank.flush()
        self.progress.close()
        if self.first:
            self.live.close()
        return self.total_steps

    def _saved(self) -> dict[str, Any]:
        """Restore model and optimiser from the newest checkpoint and return its state; step 0 without a checkpoint."""
        # Rank 0 reads it for all: a shared file system may not show it to other nodes yet.
        saved = distributed.broadcast_from_rank0(lambda: self.checkpoints.load(torch.device("cpu"), usable=self._has_snapshots))
        if saved is None:
            return {"step": 0, "unreported": [], "curve": "", "snapshots": {}}
        load_training_state(saved, self.model, self.optimizer)
        return saved

    def _has_snapshots(self, saved: dict[str, Any]) -> bool:
        paths = {self.work / "snapshots" / name: digest for name, digest in saved["snapshots"].items()}
        return all(path.is_file() and sha256(path) == digest for path, digest in paths.items())

    def _report(self, rows: list[Row]) -> None:
        if self.first:
            self.curve.append(rows)
            self.live.show(rows)
        self.progress.show(*rows)

    def _probe(self, step: int) -> Row:
        if not self.first or self.online_probe is None:
            return {}
        interval = self.runtime.online_probe.every_epochs * self.views.steps_per_epoch
        return {} if step % interval and step != self.total_steps else self.online_probe()

    def _step_done(self, step: int, unreported: Callable[[], list[Row]]) -> None:
        self._snapshot(step)  # before the checkpoint, so that a run resumed from it has the snapshot
        stop, late = self.any_rank(self.terminated(), self.checkpoints.late())
        if self.checkpoints.at(step) or late or stop:
            state = {"step": step, "unreported": unreported(), "position": asdict(self.views.position(step))}
            state |= training_state(self.model, self.optimizer)
            if self.first:
                self.checkpoints.save(step, state | {"curve": self.curve.text, "snapshots": self.digests})
        if stop:
            if self.first:
                print(f"{self.name}  stopped after step {step}: run again to continue", flush=True)
            raise Preempted

    def _snapshot(self, step: int) -> None:
        if self.first and step in self.snapshots:
            (self.work / "snapshots").mkdir(exist_ok=True)
            path = self.work / "snapshots" / f"{step:08d}.safetensors"
            self.save_encoder(path, self.snapshots[step])
            self.digests[path.name] = sha256(path)


def prepare(model: nn.Module, device: torch.device) -> None:
    """Move a model to its device in channels_last memory format and set training mode."""
    model.to(device).to(memory_format=torch.channels_last).train()
