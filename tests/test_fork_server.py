"""Stages that a server forks: as if started plainly, and ended by what would have ended them."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.engines.imports import ROOT

STAGE = """
import library
import json, os, signal, sys, time

VALUE = 1

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
    print(json.dumps({"pid": os.getpid(), "argv": sys.argv[1:], "value": VALUE, "environ": dict(os.environ), "cwd": os.getcwd()}))
    sys.stdout.flush()
    while "wait" in sys.argv:
        time.sleep(0.05)
    sys.exit(int(os.environ.get("CODE", "0")))
"""
STARTER = """
import signal
from rsa import fork_server
print(fork_server.start(["pipeline.nap"])["FORK_SERVER"], flush=True)
signal.pause()
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("pipeline/__init__.py", "rsa/hand_over.py", "rsa/fork_server.py", "rsa/processes.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "rsa/__init__.py").touch()
    (tmp_path / "pipeline/nap.py").write_text(STAGE)
    (tmp_path / "library.py").write_text("import os\nos.environ['KMP_SET_BY_IT'] = '1'\n")
    time.sleep(0.01)  # the library is older than the server
    return tmp_path


@pytest.fixture
def starter(project: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-c", STARTER], cwd=project, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


@pytest.fixture
def place(starter: subprocess.Popen[str]) -> str:
    assert starter.stdout is not None
    return starter.stdout.readline().strip()


def until(done: Any) -> None:
    for _ in range(600):
        if done():
            return
        time.sleep(0.05)
    raise AssertionError("nothing happened for 30 s")


def refuses(place: str) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(place) != 0


def begin(project: Path, place: str, *arguments: str, **environ: str) -> tuple[subprocess.Popen[str], Any]:
    """Start a stage; return its process and what the stage printed of itself."""
    command = [sys.executable, "-m", "pipeline.nap", *arguments]
    process = subprocess.Popen(
        command, cwd=project, stdout=subprocess.PIPE, text=True, env=os.environ | {"FORK_SERVER": place} | environ
    )
    assert process.stdout is not None
    with process.stdout as printed:
        return process, json.loads(printed.readline())


def test_a_fork_runs_as_a_new_process_would(project: Path, place: str) -> None:
    process, told = begin(project, place, "--seed", "3", CODE="7", OMP_NUM_THREADS="1")
    assert process.wait() == 7
    assert told["pid"] != process.pid
    assert told["argv"] == ["--seed", "3"]
    assert told["cwd"] == str(project)
    assert told["environ"] == {**os.environ, "CODE": "7", "OMP_NUM_THREADS": "1", "KMP_SET_BY_IT": "1"}


def test_what_a_fork_starts_is_forked_too(project: Path, place: str) -> None:
    process, told = begin(project, place)
    again, told_again = begin(project, place, **told["environ"])
    assert (process.wait(), again.wait()) == (0, 0)
    assert told_again["pid"] != again.pid


@pytest.mark.parametrize("change", ["library", "variable", "server"])
def test_where_a_fork_would_differ_the_stage_starts_plainly(
    project: Path, place: str, starter: subprocess.Popen[str], change: str
) -> None:
    begin(project, place)[0].wait()
    if change == "library":
        (project / "library.py").write_text("# new")
    if change == "server":
        starter.kill()
        until(lambda: refuses(place))
    environ = {"OMP_WAIT_POLICY": "passive"} if change == "variable" else {}
    process, told = begin(project, place, **environ)
    assert process.wait() == 0
    assert told["pid"] == process.pid


def test_a_fork_has_the_code_of_today(project: Path, place: str) -> None:
    begin(project, place)[0].wait()
    (project / "pipeline/nap.py").write_text(STAGE.replace("VALUE = 1", "VALUE = 2"))
    process, told = begin(project, place)
    assert told["pid"] != process.pid
    assert told["value"] == 2
    assert process.wait() == 0


def test_signals_reach_the_stage(project: Path, place: str) -> None:
    process, told = begin(project, place, "wait")
    assert told["pid"] != process.pid
    process.terminate()
    assert process.wait() == 75


@pytest.mark.parametrize("victim", ["process", "stage", "keeper"])
def test_what_kills_one_kills_all(project: Path, place: str, victim: str) -> None:
    process, told = begin(project, place, "wait")
    stage = psutil.Process(told["pid"])
    os.kill({"process": process.pid, "stage": stage.pid, "keeper": stage.ppid()}[victim], signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    until(lambda: not stage.is_running() or stage.status() == psutil.STATUS_ZOMBIE)


def test_the_server_ends_with_the_process_that_started_it_and_leaves_its_stages_alone(
    project: Path, place: str, starter: subprocess.Popen[str]
) -> None:
    process, told = begin(project, place, "wait")
    starter.kill()
    until(lambda: refuses(place))
    assert psutil.Process(told["pid"]).is_running()
    process.terminate()
    assert process.wait() == 75
