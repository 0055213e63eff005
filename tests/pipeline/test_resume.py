"""Real training processes, killed at random moments: they continue to the bit, and the curve has every step once."""

import contextlib
import csv
import hashlib
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from pipeline.code import write_code
from pipeline.pretrain import pretrain
from rsa import distributed
from rsa.data.shards import write_shards
from rsa.data.sources import open_source
from rsa.params.document import Params
from rsa.params.load import load
from rsa.params.runtime import Checkpoint
from rsa.training.checkpoint import Preempted
from rsa.training.launch import launch
from tests.conftest import WriteParams
from tests.engines.imports import ROOT

KILLS = {"float32": 5, "bf16": 7, "hard views, adaptive beta": 4, "two ranks": 2}  # make test-faults draws many more
START = Path("weights/none")

server = multiprocessing.get_context("forkserver")
server.set_forkserver_preload(["pipeline.pretrain", "tests.pipeline.test_resume"])

PROBE = {"every_epochs": 1, "samples": 200}  # in every step of whose epochs a kill may come
TWO = {"runtime.processes": 2, "runtime.timeout_minutes": 1}
HARD = {
    "candidates": 3,
    "local_candidates": None,
    "max_combinations": 8,
    "scoring": {"joint_views": True, "precision": "same", "predicted": None, "reuse": False},
}


@pytest.fixture
def shards(tmp_path: Path, tiny: Params) -> Path:
    folder = tmp_path / "shards"
    folder.mkdir()
    write_shards(open_source(tiny.datasets["digits"], 0), tiny.shards, {}, folder, tmp_path / "shards.work")
    return folder


def run(p: Params, method: str, shards: Path, out: Path, work: Path) -> None:
    os.setsid()  # its ranks are killed with it
    out.mkdir(parents=True, exist_ok=True)
    os.chdir(out.parent)  # for live files
    work.mkdir(parents=True, exist_ok=True)
    train(p, method, shards, out, work)


def train(p: Params, method: str, shards: Path, out: Path, work: Path) -> None:
    (out.parent / "code/pretrain").mkdir(parents=True, exist_ok=True)
    (out.parent / "code/pretrain" / method).touch()
    sections = {"views": p.views, "model": p.model, "pretrain": p.pretrain, "settings": p.methods[method], "runtime": p.runtime}
    pretrain(**sections, method=method, seed=0, shards=shards / "manifest.json", start=START, out=out, work=work)


def start(p: Params, method: str, shards: Path, out: Path, work: Path) -> BaseProcess:
    process = server.Process(target=run, args=(p, method, shards, out, work))
    process.start()
    return process


def kill(process: BaseProcess) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    os.kill(process.pid, signal.SIGKILL)  # where it has no group of its own yet
    process.join()


def result(out: Path) -> tuple[str, ...]:
    files = [out / "encoder.safetensors", out / "curve.csv", *sorted((out / "snapshots").iterdir())]
    return tuple(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)


KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "float32": ("byol", {"runtime.checkpoint": {"steps": 4, "minutes": 10}, "runtime.online_probe": PROBE}),
    "bf16": ("byol", {"runtime.checkpoint": {"steps": 1, "minutes": 10}, "pretrain.precision": "bf16"}),  # always writing
    "two ranks": (
        "byol",
        {
            "runtime.checkpoint": {"steps": 4, "minutes": 10},
            "runtime.processes": 2,
            "runtime.online_probe": PROBE,
        },
    ),
    "hard views, adaptive beta": ("rsa", {"runtime.checkpoint": {"steps": 1000, "minutes": 0.001}}),  # by the clock
}


def described(kind: str, write_params: WriteParams) -> tuple[str, Params]:
    method, changes = KINDS[kind]
    if method == "rsa":
        changes = {**changes, "methods.rsa.hard_views": HARD}
        changes |= {"methods.rsa.beta": {"schedule": "adaptive", "start": 0.4, "end": 0.0, "window": 64, "after": 0.0}}
    all_kinds = {"pretrain.epochs": 5, "pretrain.warmup_epochs": 1, "runtime.snapshots": [0.0, 0.3, 0.7, 1.0]}
    return method, load(write_params({**all_kinds, **changes}))


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=[pytest.mark.slow] if kind == "bf16" else []) for kind in KINDS])
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
    while kills < KILLS[kind]:
        attempts += 1
        out, work = tmp_path / f"out{attempts}", tmp_path / f"work{attempts}"
        while True:
            process = start(p, method, shards, out, work)
            process.join(chance.uniform(0, seconds) if kills < KILLS[kind] else None)
            if process.exitcode is not None:
                break
            kill(process)
            kills += 1
        assert process.exitcode == 0
        assert result(out) == want
    with (tmp_path / "straight" / "curve.csv").open() as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == list(range(1, 56))


@pytest.mark.parametrize("kind", ["float32", "two ranks"])
def test_a_signal_writes_a_checkpoint_and_says_try_again(kind: str, shards: Path, tmp_path: Path, write_params: WriteParams):
    """SIGTERM comes to the launcher alone, as from an engine; Ctrl-C to every process of the terminal.

    Damage to the files beside the checkpoint changes no result either.
    """
    method, p = described(kind, write_params)
    p = p.model_copy(update={"runtime": p.runtime.model_copy(update={"checkpoint": Checkpoint(steps=1000, minutes=60)})})
    straight = start(p, method, shards, tmp_path / "straight", tmp_path / "straight.work")
    straight.join()
    process = start(p, method, shards, tmp_path / "out", tmp_path / "work")
    while not (tmp_path / "work" / "curve.csv").exists() or not (tmp_path / "work" / "curve.csv").stat().st_size:
        time.sleep(0.01)  # until the first 25 steps are done
    if kind == "float32":
        os.kill(process.pid, signal.SIGTERM)
    else:
        os.killpg(process.pid, signal.SIGINT)
    process.join()
    assert process.exitcode == Preempted.code == 75
    (checkpoint,) = (tmp_path / "work").glob("*.ckpt")
    assert 25 <= int(checkpoint.stem.removeprefix("step_")) < 55
    beside = tmp_path / "work" / {"float32": "curve.csv", "two ranks": "snapshots/00000000.safetensors"}[kind]
    beside.write_bytes(beside.read_bytes()[:100])
    again = start(p, method, shards, tmp_path / "out", tmp_path / "work")
    again.join()
    assert again.exitcode == 0
    assert result(tmp_path / "out") == result(tmp_path / "straight")


@pytest.fixture
def no_restarts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rsa.training.launch.RESTARTS", 0)


@pytest.mark.parametrize("act", ["raise", "die"])
def test_a_rank_that_ends_early_ends_the_job_with_its_number_and_reason(
    act: str, tmp_path: Path, write_params: WriteParams, no_restarts: None
):
    p = load(write_params(TWO))
    began = time.monotonic()
    text = {"raise": r"rank 1 of 2 ended with exit code 1: (.|\n)*no such luck", "die": r"rank 1 of 2 ended with exit code -9: "}[
        act
    ]
    with pytest.raises(ValueError, match=text):
        launch(p.pretrain, p.runtime, tmp_path, unlucky, act)
    assert time.monotonic() - began < 60


def unlucky(act: str) -> None:
    """Rank 1 ends, rank 0 waits for it."""
    if distributed.rank() == 1:
        if act == "raise":
            raise RuntimeError("no such luck")
        os.kill(os.getpid(), signal.SIGKILL)
    distributed.all_gather_object(None)


def test_a_peer_that_hangs_is_noticed_after_the_timeout(tmp_path: Path, write_params: WriteParams, no_restarts: None):
    p = load(write_params({**TWO, "runtime.timeout_minutes": 0.05}))
    with pytest.raises(ValueError, match=r"rank 0 of 2 ended with exit code 1: (.|\n)*[Tt]imed out"):
        launch(p.pretrain, p.runtime, tmp_path, asleep)


def asleep() -> None:
    """Rank 1 does not answer."""
    if distributed.rank() == 1:
        time.sleep(300)
    distributed.all_gather_object(None)


def test_what_several_ranks_cannot_do_is_refused_before_they_start(tmp_path: Path, write_params: WriteParams):
    p = load(write_params({"runtime.processes": 5}))
    with pytest.raises(ValueError, match=r"batch_size must be a multiple of processes x accumulate \(5 x 1\), got 32"):
        launch(p.pretrain, p.runtime, tmp_path, asleep)
    p = load(write_params({"runtime.processes": 2, "runtime.compile": True}))
    with pytest.raises(ValueError, match=r"runtime.compile must be false for several processes \(2\), got true"):
        launch(p.pretrain, p.runtime, tmp_path, asleep)


def test_a_killed_rank_is_started_again(tmp_path: Path, write_params: WriteParams):
    p = load(write_params(TWO))
    launch(p.pretrain, p.runtime, tmp_path, unlucky_once, tmp_path)
    assert (tmp_path / "tries").read_text() == "xx"


def unlucky_once(folder: Path) -> None:
    """Rank 1 dies at the first try."""
    if distributed.rank() == 1:
        with (folder / "tries").open("a") as tries:
            tries.write("x")
        if (folder / "tries").read_text() == "x":
            os.kill(os.getpid(), signal.SIGKILL)
    distributed.all_gather_object(None)


def test_a_users_error_is_not_tried_again(tmp_path: Path, write_params: WriteParams):
    p = load(write_params(TWO))
    with pytest.raises(ValueError, match=r"^no such thing$"):
        launch(p.pretrain, p.runtime, tmp_path, mistaken, tmp_path)
    assert (tmp_path / "tries").read_text() == "x"


def mistaken(folder: Path) -> None:
    """Rank 1 finds an error in what was asked for."""
    if distributed.rank() == 1:
        with (folder / "tries").open("a") as tries:
            tries.write("x")
        raise ValueError("no such thing")
    distributed.all_gather_object(None)


def test_several_nodes_need_an_address_to_meet_at(tmp_path: Path, write_params: WriteParams, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    p = load(write_params({"runtime.nodes": 2}))
    with pytest.raises(ValueError, match=r"runtime.nodes 2 needs a Slurm job, or MASTER_ADDR to name the first node"):
        launch(p.pretrain, p.runtime, tmp_path, asleep)


def test_a_collapse_is_an_error_of_one_line(tmp_path: Path, shards: Path, write_params: WriteParams):
    """As a user meets it: the stage from the command line."""
    strict = {"after": 0.0, "min_std": 0.0, "min_rank": 1000.0}
    path = write_params({"pretrain.collapse": strict})
    command = [sys.executable, "-m", "pipeline.pretrain", "--params", str(path), "--method", "byol", "--seed", "0"]
    (tmp_path / START).parent.mkdir()
    (tmp_path / "code").mkdir()
    (tmp_path / START).touch()
    command += ["--shards", str(shards / "manifest.json"), "--start", str(START), "--out", str(tmp_path / "out")]
    write_code(load(path), (tmp_path / "code").resolve())
    run = subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert run.returncode == 1
    assert run.stderr.startswith("pretrain: error: collapsed at step 11: effective_rank must be at least 1000.0")
    assert "Traceback" not in run.stderr


def test_a_checkpoint_of_other_data_is_refused(
    tmp_path: Path, shards: Path, write_params: WriteParams, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    method, p = described("float32", write_params)
    first = start(p, method, shards, tmp_path / "first", tmp_path / "work")
    first.join()
    wider = p.model_copy(update={"views": p.views.model_copy(update={"flip_prob": 0.25})})
    with pytest.raises(ValueError, match=r"the checkpoint was written with recipe_sha256 \w+, this run uses \w+"):
        train(wider, method, shards, tmp_path / "out", tmp_path / "work")
