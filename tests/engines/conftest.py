"""The toy project, written and built once for all workers; tests work on copies of it."""

import fcntl
import os
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.engines.project import Project
from tests.engines.toy import write_toy


class Base(NamedTuple):
    """The toy project as written, and after a `dvc repro`, committed and pushed to a remote."""

    written: Project
    built: Project


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    mine = tmp_path_factory.getbasetemp()
    shared = (mine.parent if "PYTEST_XDIST_WORKER" in os.environ else mine) / "toy"
    shared.mkdir(exist_ok=True)
    made = Base(Project(shared / "written", shared / "home"), Project(shared / "built", shared / "home"))
    with (shared / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "made").exists():
            make(made, shared)
            (shared / "made").touch()
    return made


def make(base: Base, folder: Path) -> None:
    base.written.home.mkdir()
    base.written.folder.mkdir()
    write_toy(base.written.folder, seeds=1)
    base.written.call("git", "init", "--quiet", "--initial-branch", "main")
    base.written.call("git", "config", "user.name", "toy")
    base.written.call("git", "config", "user.email", "toy@localhost")
    base.written.dvc("init", "--quiet")
    base.written.dvc("remote", "add", "--quiet", "--default", "store", str(folder / "remote"))
    commit(base.written)
    base.written.copy(base.built.folder)
    base.built.dvc("repro")
    commit(base.built)
    base.built.dvc("push", "--quiet")


def commit(project: Project) -> None:
    project.call("git", "add", "--all")
    project.call("git", "commit", "--quiet", "--message", "toy")


@pytest.fixture
def built(base: Base, tmp_path: Path) -> Project:
    """A copy in which nothing is left to do."""
    return base.built.copy(tmp_path / "start")


@pytest.fixture
def written(base: Base, tmp_path: Path) -> Project:
    """A copy in which nothing has been done yet."""
    return base.written.copy(tmp_path / "start")
