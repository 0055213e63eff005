"""Real training processes, killed at random moments: they continue to the bit, and the curve has every step once."""

import csv
import hashlib
import multiprocessing
import os
import random
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from rsa import params
from rsa.data.shards import write_shards
from rsa.data.sources import open_source
from rsa.params import Params
from rsa.training.checkpoint import Interrupted
from tests.conftest import WriteParams

KILLS = 7  # of each kind of run: 21 in all
READS = ["views", "model", "pretrain", "methods.byol", "methods.rsa", "methods.rsa_hard"]

server = multiprocessing.get_context("forkserver")
server.set_forkserver_preload(["pipeline.pretrain", "tests.pipeline.test_resume"])

HARD = {
    "candidates": 3,
    "local_candidates": None,
    "max_sets": 8,
    "scoring": {"precision": "same", "statistics": "batch", "scale": 1.0, "targets": "target", "reuse": False},
}


@pytest.fixture
def shards(tmp_path: Path, tiny: Params) -> Path:
    folder = tmp_path / "shards"
    folder.mkdir()
    write_shards(open_source(tiny.datasets["digits"], 0), tiny.shards, {}, folder, tmp_path / "shards.work")
    return folder


def run(p: Params, method: str, shards: Path, out: Path, work: Path) -> None:
    from pipeline.pretrain import pretrain

    out.mkdir(parents=True, exist_ok=True)
    pretrain(p, method, 0, shards=shards, out=out, work=work)


def start(p: Params, method: str, shards: Path, out: Path, work: Path) -> BaseProcess:
    process = server.Process(target=run, args=(p, method, shards, out, work))
    process.start()
    return process


def result(out: Path) -> tuple[str, str]:
    return tuple(hashlib.sha256((out / name).read_bytes()).hexdigest() for name in ("encoder.safetensors", "curve.csv"))


KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "float32": ("byol", {"pretrain.checkpoint": {"steps": 4, "minutes": 10}}),
    "bf16": ("byol", {"pretrain.checkpoint": {"steps": 1, "minutes": 10}, "pretrain.precision": "bf16"}),  # always writing
    "hard views, adaptive beta": ("rsa", {"pretrain.checkpoint": {"steps": 1000, "minutes": 0.001}}),  # by the clock
}


def described(kind: str, write_params: WriteParams) -> tuple[str, Params]:
    method, changes = KINDS[kind]
    if method == "rsa":
        changes = {**changes, "methods.rsa.hard_views": HARD}
        changes |= {"methods.rsa.beta": {"schedule": "adaptive", "start": 0.4, "end": 0.0, "window": 64}}
    return method, params.load(write_params({"pretrain.epochs": 5, "pretrain.warmup_epochs": 1, **changes}))


@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_random_moments_a_run_ends_in_the_same_bits(kind: str, shards: Path, tmp_path: Path, write_params: WriteParams):
    method, p = described(kind, write_params)
    warm = server.Process(target=int)  # the first one waits for the server's imports
    warm.start()
    warm.join()
    began = time.monotonic()
    straight = start(p, method, shards, tmp_path / "straight", tmp_path / "straight.work")
    straight.join()
    assert straight.exitcode == 0
    seconds = time.monotonic() - began
    want = result(tmp_path / "straight")
    chance = random.Random(0)
    kills = attempts = 0
    while kills < KILLS:
        attempts += 1
        out, work = tmp_path / f"out{attempts}", tmp_path / f"work{attempts}"
        while True:
            process = start(p, method, shards, out, work)
            process.join(chance.uniform(0, seconds) if kills < KILLS else None)
            if process.exitcode is not None:
                break
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            kills += 1
        assert process.exitcode == 0
        assert result(out) == want
    with (tmp_path / "straight" / "curve.csv").open() as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == list(range(1, 56))


def test_sigterm_writes_a_checkpoint_and_says_try_again(shards: Path, tmp_path: Path, write_params: WriteParams):
    method, p = described("float32", write_params)
    p = p.model_copy(update={"pretrain": p.pretrain.model_copy(update={"checkpoint": params.Checkpoint(steps=1000, minutes=60)})})
    straight = start(p, method, shards, tmp_path / "straight", tmp_path / "straight.work")
    straight.join()
    process = start(p, method, shards, tmp_path / "out", tmp_path / "work")
    while not (tmp_path / "work" / "curve.csv").exists() or not (tmp_path / "work" / "curve.csv").stat().st_size:
        time.sleep(0.01)  # until the first 25 steps are done
    os.kill(process.pid, signal.SIGTERM)
    process.join()
    assert process.exitcode == Interrupted.code == 75
    (checkpoint,) = (tmp_path / "work").glob("*.ckpt")
    assert 25 <= int(checkpoint.stem.removeprefix("step_")) < 55
    again = start(p, method, shards, tmp_path / "out", tmp_path / "work")
    again.join()
    assert again.exitcode == 0
    assert result(tmp_path / "out") == result(tmp_path / "straight")
