"""Jobs that run at once on one host get disjoint devices, by locks that end with the job, a kill included."""

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engines import devices
from tests.engines.imports import ROOT
from tests.engines.project import TELL_ALL, Project, kill, wait_until

# Prints its devices to a file, then runs until the file `end` exists.
JOB = """
import os, pathlib, sys, time
report, end = map(pathlib.Path, sys.argv[1:])
report.with_suffix(".new").write_text(os.environ["CUDA_VISIBLE_DEVICES"])
report.with_suffix(".new").replace(report)
while not end.exists():
    time.sleep(0.02)
"""


class Host:
    """Jobs on a host whose devices are made up."""

    def __init__(self, folder: Path, gpus: str | None) -> None:
        self.folder = folder
        self.environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
        self.environment["TMPDIR"] = str(folder)
        if gpus is not None:
            self.environment["CUDA_VISIBLE_DEVICES"] = gpus
        self.jobs: dict[str, subprocess.Popen[str]] = {}

    def start(self, name: str, count: int) -> None:
        command = [sys.executable, "-m", "engines.devices", str(count), sys.executable, "-c", JOB]
        self.jobs[name] = subprocess.Popen(
            [*command, str(self.report(name)), str(self.folder / "end")], cwd=ROOT, env=self.environment, text=True
        )

    def report(self, name: str) -> Path:
        return self.folder / f"{name}.devices"

    def devices(self, name: str) -> set[str]:
        """What a job was given; waits until it has begun."""
        wait_until(self.report(name).exists, f"job {name} has begun")
        return set(self.report(name).read_text().split(",")) - {""}


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Callable[[str | None], Host]]:
    hosts: list[Host] = []

    def make(gpus: str | None) -> Host:
        hosts.append(Host(tmp_path, gpus))
        return hosts[-1]

    yield make
    (tmp_path / "end").touch()
    for each in hosts:
        for job in each.jobs.values():
            job.wait()


def test_jobs_at_once_have_disjoint_devices_and_a_kill_frees_them(host: Callable[[str | None], Host]) -> None:
    node = host("3,GPU-5/b,7")
    node.start("first", 1)
    node.start("second", 1)
    first, second = node.devices("first"), node.devices("second")
    assert len(first) == len(second) == 1
    assert first | second < {"3", "GPU-5/b", "7"}
    assert not first & second

    node.start("third", 2)  # only one is free
    with pytest.raises(subprocess.TimeoutExpired):
        node.jobs["third"].wait(3 * devices.WAIT)
    assert not node.report("third").exists()
    kill(node.jobs["first"])
    assert node.devices("third") == {"3", "GPU-5/b", "7"} - second


def test_jobs_that_want_none_wait_for_nobody(host: Callable[[str | None], Host]) -> None:
    node = host("0")
    node.start("with", 1)
    assert node.devices("with") == {"0"}
    node.start("without", 0)
    assert node.devices("without") == set()


def test_slurm_jobs_do_not_wait_for_each_others_device_0(host: Callable[[str | None], Host]) -> None:
    """Where Slurm confines a job to its devices it numbers them from 0 in every job."""
    node = host("0")
    for job in ("17", "18"):
        node.environment["SLURM_JOB_ID"] = job
        node.start(job, 1)
    assert node.devices("17") == node.devices("18") == {"0"}
    node.start("same", 1)  # in job 18
    with pytest.raises(subprocess.TimeoutExpired):
        node.jobs["same"].wait(3 * devices.WAIT)
    assert not node.report("same").exists()


def test_hosts_that_share_a_tmpdir_do_not_wait_for_each_others_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    held = []
    for name in ("node1", "node2"):
        monkeypatch.setattr(devices.platform, "node", lambda name=name: name)
        held += devices.acquire(1, ["0"]).values()
    assert len(held) == 2
    for handle in held:
        os.close(handle)


@pytest.mark.parametrize(("gpus", "count"), [("0,1", 3), ("", 1)])
def test_more_than_there_are_is_an_error(gpus: str, count: int, host: Callable[[str | None], Host]) -> None:
    node = host(gpus)
    command = [sys.executable, "-m", "engines.devices", str(count), "true"]
    done = subprocess.run(command, cwd=ROOT, env=node.environment, text=True, capture_output=True)
    assert done.returncode != 0
    assert f"a job wants {count} GPUs (meta.gpu in dvc.yaml), and this host has {count - 1}" in done.stderr


def test_the_command_has_the_exit_code_of_the_job(host: Callable[[str | None], Host]) -> None:
    command = [sys.executable, "-m", "engines.devices", "0", "sh", "-c", "exit 7"]
    assert subprocess.run(command, cwd=ROOT, env=host("").environment).returncode == 7


def test_two_jobs_that_want_most_devices_do_not_block_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All or nothing: each could hold one of three and wait for the other's for good."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(devices, "WAIT", 0.001)

    def job() -> None:
        for _ in range(50):
            held = devices.acquire(2, ["a", "b", "c"])
            assert len(held) == 2
            for handle in held.values():
                os.close(handle)

    jobs = [threading.Thread(target=job, daemon=True) for _ in range(3)]
    for each in jobs:
        each.start()
    for each in jobs:
        each.join(timeout=30)
    assert not any(each.is_alive() for each in jobs)


@pytest.mark.parametrize(("named", "gpus"), [("", []), ("5", ["5"]), ("1,GPU-a,0", ["1", "GPU-a", "0"])])
def test_the_environment_names_the_devices(named: str, gpus: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert devices.visible_gpus() == gpus


def test_a_machine_without_driver_has_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert devices.visible_gpus() == []


@pytest.mark.parametrize(
    ("listed", "gpus"),
    [
        ("GPU 0: A (UUID: GPU-1)\\nGPU 1: A (UUID: GPU-2)\\n", ["0", "1"]),
        ("GPU 0: A (UUID: GPU-1)\\n  MIG 1g Device 0: (UUID: MIG-3)\\n", ["0"]),
        ("No devices found.\\n", []),
    ],
)
def test_the_driver_lists_the_gpus(listed: str, gpus: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = tmp_path / "nvidia-smi"
    driver.write_text(f"#!/bin/sh\nprintf '{listed}'\n")
    driver.chmod(0o755)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert devices.visible_gpus() == gpus


@pytest.mark.parametrize(("gpus", "asked"), [("", {"0"}), pytest.param("2,3", {"0", "1"}, marks=pytest.mark.slow)])
def test_snakemake_asks_for_gpus_only_where_there_are_some(gpus: str, asked: set[str], written: Project) -> None:
    printed = written.snakemake("--dry-run", *TELL_ALL, CUDA_VISIBLE_DEVICES=gpus)
    commands = [line.split() for line in printed.splitlines() if "engines.devices" in line]
    assert {words[words.index("engines.devices") + 1] for words in commands} == asked


@pytest.mark.slow
def test_a_run_on_several_gpus_is_given_threads_for_each(written: Project) -> None:
    written.edit("params.yaml", "gpus: 1", "gpus: 4")
    written.edit("params.yaml", "pretrain: 1", "pretrain: 3")
    printed = written.snakemake("--dry-run", "--cores", "16", *TELL_ALL, CUDA_VISIBLE_DEVICES="2,3,4,5")
    assert "threads: 12" in printed
