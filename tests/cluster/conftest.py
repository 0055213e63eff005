"""A Slurm for all tests that want one, and the encoder that every interrupted run must end in."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.checkout import PRETRAIN as PRETRAIN_STAGE
from tests.cluster.checkout import Checkout
from tests.cluster.slurm import MissingError, Slurm, require

PRETRAIN: dict[str, Any] = {
    "epochs": 12,
    "warmup_epochs": 1,
    "checkpoint": {"steps": 5, "minutes": 10},
}
RANKS = 2


def launch(nodes: int, timeout_minutes: float = 2) -> dict[str, Any]:
    return {"nodes": nodes, "processes": RANKS // nodes, "timeout_minutes": timeout_minutes}


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
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> str:
    """sha256 of the encoder after a run of two ranks on one node that nothing disturbed."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    checkout = Checkout(folder / "checkout", folder, {}, **PRETRAIN, launch=launch(nodes=1))
    checkout.call("dvc", "repro", PRETRAIN_STAGE)
    return checkout.encoder()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """One whose run is to be of two nodes."""
    return Checkout(tmp_path / "checkout", tmp_path, {}, **PRETRAIN, launch=launch(nodes=2))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/cluster" in str(item.path):
            item.add_marker("cluster")
