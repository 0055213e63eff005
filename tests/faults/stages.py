"""The stages of a minimal experiment as processes that can be killed: each is run as `python -m pipeline.STAGE` runs it.

They are forked from a server that has imported torch and DALI, which takes longer than the stages themselves.
"""

import hashlib
import multiprocessing
import os
import re
import runpy
import shutil
import signal
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psutil
from ruamel.yaml import YAML

from rsa import fingerprint
from tests.conftest import TINY

server = multiprocessing.get_context("forkserver")
server.set_forkserver_preload(["pipeline.pretrain", "pipeline.finetune", "pipeline.linear", "pipeline.report", "pipeline.shard"])

PATIENCE = 180  # seconds for a stage to end
MANIFEST, ENCODER = "data/shards/digits/manifest.json", "runs/byol/s0/encoder.safetensors"
OF_ENCODER = {"encoder": ENCODER, "shards": MANIFEST}
FEATURES = {"seed": "0", "features": "features/byol/s0/digits"}
FLAGS = {
    "code": {"out": "code"},
    "shard": {"dataset": "digits", "raw": "requirements.lock", "out": "data/shards/digits"},
    "pretrain": {"method": "byol", "seed": "0", "shards": MANIFEST, "start": "weights/none", "out": "runs/byol/s0"},
    "extract": OF_ENCODER | {"out": "features/byol/s0/digits"},
    "probe": FEATURES | {"out": "scores/byol/s0/probe.json"},
    "transfer": FEATURES | {"out": "scores/byol/s0/transfer_digits.json"},
    "representation_metrics": {
        "snapshots": "runs/byol/s0/snapshots", "shards": MANIFEST, "seed": "0", "out": "scores/byol/s0/representation.csv",
    },
    "linear": OF_ENCODER | {"seed": "0", "protocol": "fast", "out": "scores/byol/s0/linear_digits_fast.json"},
    "finetune": OF_ENCODER | {"seed": "0", "percent": "50", "out": "scores/byol/s0/finetune_digits_50"},
    "embedding_map": FEATURES | {"out": "scores/byol/s0/embedding_map"},
    "report": {"experiment": "code/experiment.yaml", "scores": "scores", "runs": "runs", "out": "reports"},
}  # fmt: skip
INTERVAL = 4  # steps between two checkpoints
LINEAR = {
    "lr": [0.1, 1.0], "lr_per_256": True, "optimizer": "sgd", "momentum": 0.9, "nesterov": False, "weight_decay": 0.0,
    "epochs": 2, "batch_size": 32, "schedule": {"schedule": "cosine"}, "normalize": "none", "blocks": [1], "pooling": ["avg"],
    "crop_scale": [0.08, 1.0], "precision": "float32", "held_out": 0.1, "best_on_test": False, "start": "torch",
    "crop_interpolation": "linear", "geometry": None,
}  # fmt: skip
MINIMAL: dict[str, Any] = {
    "experiment.methods": ["byol"],
    "experiment.seeds": [0],
    "experiment.transfer": ["digits"],
    "shards.samples_per_shard": 100,
    "pretrain.epochs": 5,
    "pretrain.warmup_epochs": 1,
    "linear.datasets": ["digits"],
    "linear.protocols": {"fast": LINEAR},
    "finetune.datasets": ["digits"],
    "finetune.label_percents": [50],
    "finetune.training.epochs": 2,
    "runtime.snapshots": [0.0, 0.3, 1.0],
    "runtime.checkpoint": {"steps": INTERVAL, "minutes": 10},
}


class Pipeline:
    """A folder with the experiment; `seconds` has how long each stage took when nothing disturbed it."""

    def __init__(self, folder: Path, seconds: dict[str, float] | None = None) -> None:
        self.folder, self.seconds = folder, seconds or {}
        self.printed = folder.with_name(f"{folder.name}.printed")

    def copy(self, folder: Path) -> "Pipeline":
        shutil.copytree(self.folder, folder, symlinks=True, dirs_exist_ok=True)
        return Pipeline(folder, self.seconds)

    def without(self, stage: str) -> "Pipeline":
        """Remove all that a stage has made or kept."""
        for path in (self.folder / FLAGS[stage]["out"], self.folder / ".work" / stage):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        return self

    def edit(self, changes: dict[str, Any]) -> None:
        """Change values of params.yaml, by dotted name."""
        path = self.folder / "params.yaml"
        document = YAML(typ="safe").load(path)
        for dotted, value in changes.items():
            *sections, key = dotted.split(".")
            section = document
            for name in sections:
                section = section[name]
            section[key] = value
        YAML(typ="safe").dump(document, path)

    def start(self, stage: str, **flags: str) -> BaseProcess:
        """Start a stage in a process group of its own; what it prints goes to the file `printed`."""
        self.printed.write_text("")  # not of an earlier process, should this one be killed before it prints
        given = FLAGS[stage] | flags
        arguments = [part for name, value in given.items() for part in (f"--{name}", value)]
        process = server.Process(target=enter, args=(stage, arguments, self.folder, self.printed))
        process.start()
        return process

    def run(self, stage: str, **flags: str) -> tuple[int | None, str]:
        """Run a stage to its end: its exit code and what it printed."""
        process = self.start(stage, **flags)
        ended(process)
        return process.exitcode, self.printed.read_text()

    def complete(self, stage: str) -> None:
        """Run a stage, which must succeed."""
        code, printed = self.run(stage)
        assert code == 0, f"{stage} exits with {code}:\n{printed}"

    def result(self, stage: str) -> dict[str, str]:
        """The sha256 of every file that a stage has made."""
        return digests(self.folder, FLAGS[stage]["out"])

    def left(self) -> list[str]:
        """List the files that unfinished work has left among the results, and checkpoints."""
        names = (*self.folder.rglob("*.partial"), *(self.folder / ".work").rglob("*.ckpt"))
        return [str(path.relative_to(self.folder)) for path in names]

    def newest_checkpoint(self) -> int:
        """The step of the newest checkpoint of `pretrain`, 0 without one."""
        found = (self.folder / ".work/pretrain").rglob("step_*.ckpt")
        return max((int(file.stem.removeprefix("step_")) for file in found), default=0)

    def continued(self) -> int:
        """The step after which `pretrain` says that it continued, 0 where it has not."""
        said = re.search(r"continues after step (\d+)", self.printed.read_text())
        return int(said[1]) if said else 0


def enter(stage: str, arguments: list[str], folder: Path, printed: Path) -> None:
    """Run a stage, as its process does."""
    os.setsid()
    os.chdir(folder)
    with printed.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    fingerprint.imported_files = set[Path]  # the server has imported everything
    sys.argv = [stage, *arguments]
    sys.modules.pop(f"pipeline.{stage}", None)  # which runpy would warn of
    runpy.run_module(f"pipeline.{stage}", run_name="__main__", alter_sys=True)


def ended(process: BaseProcess) -> None:
    """Wait for the end of a process and of its ranks."""
    process.join(PATIENCE)
    if process.exitcode is None:
        os.killpg(process.pid, signal.SIGKILL)
        raise AssertionError(f"a stage has not ended after {PATIENCE} s")
    patience = time.monotonic() + PATIENCE
    while of_group(process.pid):
        assert time.monotonic() < patience, "a stage's ranks or workers outlive it"
        time.sleep(0.02)


def of_group(group: int) -> list[int]:
    """The processes of a group that are alive."""
    members = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process.pid)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return members


def digests(root: Path, *names: str) -> dict[str, str]:
    """The sha256 of the files at or below some paths."""
    tops = [root / name for name in names]
    files = [file for top in tops for file in ([top] if top.is_file() else sorted(top.rglob("*"))) if file.is_file()]
    return {str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def built_pipeline(folder: Path) -> Pipeline:
    """A project in which every stage has been run."""
    (folder / "weights").mkdir(parents=True)
    (folder / "weights/none").touch()
    (folder / "requirements.lock").touch()
    shutil.copy(TINY, folder / "params.yaml")
    made = Pipeline(folder)
    made.edit(MINIMAL)
    server.Process(target=int).start()  # the first one waits for the server's imports
    for stage in FLAGS:
        began = time.monotonic()
        made.complete(stage)
        made.seconds[stage] = time.monotonic() - began
    return made
