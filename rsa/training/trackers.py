"""Trackers of experiments that a run may write its curve to: TensorBoard, Weights & Biases, MLflow.

Each attempt of a run begins anew with the rows that its curve has, so that a continued run has every step once. W&B and MLflow
follow their own variables (WANDB_MODE, WANDB_PROJECT, MLFLOW_TRACKING_URI); without them nothing leaves the machine. Their
packages are imported by name, since pyproject.toml has neither.
"""

import importlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from rsa.training.curve import Row

LOGS = Path("logs")
PROJECT = "rsa"
AT_ONCE = 1000  # metrics in a request to MLflow


class Tracker(Protocol):
    """A sink of rows of a curve."""

    def add(self, rows: list[Row]) -> None:
        """Send new rows, each with its step."""

    def close(self) -> None:
        """Finish the run there."""


class TensorBoard:
    """Event files in logs/tensorboard/NAME."""

    def __init__(self, name: str) -> None:
        folder = LOGS / "tensorboard" / name
        shutil.rmtree(folder, ignore_errors=True)  # of an earlier attempt
        self.writer = _package("tensorboard", "torch.utils.tensorboard").SummaryWriter(str(folder))

    def add(self, rows: list[Row]) -> None:
        """Write a scalar for each value."""
        for row in rows:
            for name, value in _values(row).items():
                self.writer.add_scalar(name, value, int(row["step"]))

    def close(self) -> None:
        """Close the file."""
        self.writer.close()


class WandB:
    """A run of Weights & Biases; in logs/wandb, to be sent by `wandb sync`, unless WANDB_MODE says otherwise."""

    def __init__(self, name: str) -> None:
        (LOGS / "wandb").mkdir(parents=True, exist_ok=True)
        self.run = _package("wandb").init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            group=name,
            name=name,
            dir=str(LOGS),
            mode=os.environ.get("WANDB_MODE", "offline"),
        )

    def add(self, rows: list[Row]) -> None:
        """Log each row at its step."""
        for row in rows:
            self.run.log(_values(row), step=int(row["step"]))

    def close(self) -> None:
        """Finish the run."""
        self.run.finish()


class MLflow:
    """A run of MLflow; in logs/mlflow unless MLFLOW_TRACKING_URI says otherwise."""

    def __init__(self, name: str) -> None:
        LOGS.mkdir(exist_ok=True)
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # else MLflow refuses a folder
        package = _package("mlflow")
        self.metric = package.entities.Metric
        self.client = package.MlflowClient(os.environ.get("MLFLOW_TRACKING_URI", (LOGS / "mlflow").resolve().as_uri()))
        experiment = self.client.get_experiment_by_name(PROJECT)
        experiment_id = experiment.experiment_id if experiment else self.client.create_experiment(PROJECT)
        self.id = self.client.create_run(experiment_id, run_name=name).info.run_id

    def add(self, rows: list[Row]) -> None:
        """Log a metric for each value, in as few requests as MLflow allows."""
        now = int(time.time() * 1000)
        metrics = [self.metric(name, value, now, int(row["step"])) for row in rows for name, value in _values(row).items()]
        for start in range(0, len(metrics), AT_ONCE):
            self.client.log_batch(self.id, metrics=metrics[start : start + AT_ONCE])

    def close(self) -> None:
        """Mark the run as finished."""
        self.client.set_terminated(self.id)


TRACKERS: dict[str, Callable[[str], Tracker]] = {"tensorboard": TensorBoard, "wandb": WandB, "mlflow": MLflow}


def _package(name: str, module: str = "") -> Any:
    """Import a package that is slow to import, and need not be there."""
    try:
        return importlib.import_module(module or name)
    except ImportError:
        raise ValueError(f"runtime.logging: {name} is not installed: `pip install {name}`, or take it off the list") from None


def _values(row: Row) -> dict[str, float]:
    return {name: value for name, value in row.items() if name != "step"}
