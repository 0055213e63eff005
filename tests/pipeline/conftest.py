"""Running stages as their command lines run them, in this process: torch is imported once."""

import importlib
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline import stage
from pipeline.code import write_code
from rsa import fingerprint
from rsa.params.load import load
from tests.conftest import TINY
from tests.pipeline.project import Project

RunStage = Callable[..., None]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunStage:
    """Run a stage in a project of its own, on tiny.yaml: run("probe", seed=0, ...). `shards` is the folder of a manifest."""
    shutil.copy(TINY, tmp_path / "params.yaml")
    (tmp_path / "requirements.lock").touch()  # the `raw` of images that come with a package
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/none").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fingerprint, "imported_files", set)  # this process has imported everything

    def run(name: str, /, **flags: object) -> None:
        if "shards" in flags:
            flags["shards"] = f"{flags['shards']}/manifest.json"
        module = importlib.import_module(f"pipeline.{name}")
        arguments = [part for key, value in flags.items() for part in (f"--{key}", str(value))]
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        shutil.rmtree("code", ignore_errors=True)
        Path("code").mkdir()
        write_code(load(Path("params.yaml")), Path("code"))
        stage.run(getattr(module, name))

    return run


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A project with a single stage, whose runs end with the test."""
    project = Project(tmp_path)
    yield project
    project.stop()
