"""A Slurm for all tests that want one, and the encoder that every interrupted run must end in."""

import fcntl
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.cluster.checkout import PRETRAIN as PRETRAIN_STAGE
from tests.cluster.checkout import Checkout
from tests.cluster.slurm import MissingError, Slurm, require

RANKS = 2


def on_nodes(nodes: int) -> dict[str, dict[str, Any]]:
    """Changes of params: a run of two ranks on so many nodes."""
    runtime = {"nodes": nodes, "processes": RANKS // nodes, "timeout_minutes": 2, "checkpoint": {"steps": 5, "minutes": 10}}
    return {"pretrain": {"epochs": 8, "warmup_epochs": 1}, "runtime": runtime}


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    try:
        require()
        started = Slurm(nodes=2, gpus=2)
    except (MissingError, subprocess.TimeoutExpired) as why:
        pytest.skip(f"no Slurm here: {why}")
    try:
        try:
            started.start()
        except MissingError as why:
            pytest.skip(f"no Slurm here: {why}")
        yield started
    finally:
        started.stop()


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], str]:
    """Gives the encoder's sha256 after a run of two ranks on one node that nothing disturbed; pytest-xdist's workers share it."""

    def encoder() -> str:
        folder = tmp_path_factory.getbasetemp()
        shared = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
        found = shared / "uninterrupted"
        with (shared / "uninterrupted.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not found.exists():
                run = tmp_path_factory.mktemp("run")
                checkout = Checkout(run / "checkout", run, {}, **on_nodes(1))
                checkout.call("dvc", "repro", PRETRAIN_STAGE)
                found.write_text(checkout.encoder())
        return found.read_text()

    return encoder


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """One whose run is to be of two nodes."""
    return Checkout(tmp_path / "checkout", tmp_path, {}, **on_nodes(2))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/cluster" in str(item.path):
            item.add_marker("cluster")


class Halves(LoadScopeScheduling):
    """Two parts of about the same length, one for each of two workers; Slurm's tests share their Slurm."""

    def _split_scope(self, nodeid: str) -> str:
        return "first" if "test_slurm" in nodeid or "clone_elsewhere" in nodeid else "second"


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Halves:
    return Halves(config, log)
