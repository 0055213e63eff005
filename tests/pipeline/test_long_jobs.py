"""Stages that train for hours, as processes that get signals: they continue, and their scores are those of a straight run."""

import contextlib
import importlib
import json
import multiprocessing
import os
import re
import shutil
import signal
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from pipeline import stage
from pipeline.stage import TRY_AGAIN
from rsa import fingerprint
from rsa.models.encoder import save_encoder
from tests.conftest import WriteParams, described
from tests.data.shapes import draw_coco
from tests.evaluation.detectors import MODEL, tiny_backbone, tiny_detection
from tests.evaluation.test_linear_sgd import PROTOCOL
from tests.pipeline.conftest import RunStage

server = multiprocessing.get_context("forkserver")
server.set_forkserver_preload(["pipeline.linear", "pipeline.finetune", "pipeline.detect", "tests.pipeline.test_long_jobs"])

ENCODER = "encoder.safetensors"
DIGITS = {"encoder": ENCODER, "shards": "data/shards/digits/manifest.json", "seed": 0}
JOBS: dict[str, dict[str, Any]] = {
    "linear": DIGITS | {"protocol": "sgd"},
    "finetune": DIGITS | {"percent": 50},
    "detect": {"encoder": ENCODER, "data": "data/detection/shapes", "seed": 0, "name": "shapes"},
}


def run_stage(name: str, flags: dict[str, Any]) -> None:
    fingerprint.imported_files = set[Path]  # this process has imported everything
    sys.argv = [name, *(part for key, value in flags.items() for part in (f"--{key}", str(value)))]
    with Path("said.txt").open("a") as said, contextlib.redirect_stdout(said):  # else it goes to whoever started the server
        stage.run(getattr(importlib.import_module(f"pipeline.{name}"), name))


def start(name: str, out: str) -> BaseProcess:
    process = server.Process(target=run_stage, args=(name, JOBS[name] | {"out": out}))
    process.start()
    return process


def checkpoints() -> list[Path]:
    return sorted(Path(".work").rglob("*.ckpt"))


def interrupted(name: str, out: str, number: signal.Signals) -> int | None:
    """The exit code of a run that gets a signal once it has written a checkpoint of its own."""
    before = checkpoints()
    process = start(name, out)
    while checkpoints() == before and process.is_alive():
        time.sleep(0.002)
    assert process.pid is not None
    os.kill(process.pid, number)
    process.join()
    assert checkpoints()
    return process.exitcode


@pytest.fixture
def project(run: RunStage, write_params: WriteParams) -> None:
    """An encoder, and the data of every job."""
    data = draw_coco(Path("raw/shapes"), 8, 4).model_copy(update={"raw": "raw/shapes"})
    write_params(
        {
            "runtime.checkpoint": {"steps": 3, "minutes": 10},
            "model": MODEL,
            "linear": {"datasets": ["digits"], "protocols": {"sgd": PROTOCOL | {"lr": [0.01, 0.3], "epochs": 4}}},
            "finetune.datasets": ["digits"],
            "finetune.training.epochs": 8,
            "detection": {
                "shapes": {"data": data.model_dump(), "training": tiny_detection(data, iterations=20).model_dump(mode="json")}
            },
        }
    )
    save_encoder(tiny_backbone(), Path(ENCODER), described(MODEL))
    run("shard", dataset="digits", raw="requirements.lock", out="data/shards/digits")
    run("detection_data", name="shapes", raw="raw/shapes", out="data/detection/shapes")


@pytest.mark.parametrize("name", ["finetune", *(pytest.param(name, marks=pytest.mark.slow) for name in ("linear", "detect"))])
def test_stopped_and_killed_a_job_continues_and_its_scores_are_the_same(name: str, project: None):
    out = Path("finetune" if name == "finetune" else f"{name}.json")
    started = start(name, str(out))
    started.join()
    assert started.exitcode == 0
    straight = out.rename("straight" + out.suffix)
    shutil.rmtree(".work")
    for number, code in ((signal.SIGTERM, TRY_AGAIN), (signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, TRY_AGAIN)):
        assert interrupted(name, str(out), number) == code
        assert not out.exists()
    started = start(name, str(out))
    started.join()
    assert started.exitcode == 0
    said = Path("said.txt").read_text()
    assert "continues after step" in said
    assert len(re.findall(r"stopped after step \d+: run again to continue", said)) == 2
    for file in [straight] if straight.is_file() else straight.iterdir():
        assert (out / file.name if out.is_dir() else out).read_bytes() == file.read_bytes()
    assert checkpoints() == []
    assert json.loads(next(Path("logs").glob(f"{name}.json")).read_text())["resumed"]
