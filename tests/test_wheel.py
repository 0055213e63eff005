"""The package in a fresh environment, outside the checkout, with its core dependencies alone."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engines.imports import ROOT

TRACKED = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]


def call(*command: object, cwd: Path) -> str:
    done = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment in which somebody ran `pip install .` in a checkout that is gone."""
    folder = tmp_path_factory.mktemp("wheel")
    names = [Path(name) for name in call(*TRACKED, cwd=ROOT).split("\0")[:-1]]
    for name in (name for name in names if (ROOT / name).exists()):
        (folder / "checkout" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / "checkout" / name, follow_symlinks=False)
    call(sys.executable, "-m", "venv", folder / "environment", cwd=folder)
    call(folder / "environment/bin/pip", "install", "--quiet", "./checkout", cwd=folder)
    shutil.rmtree(folder / "checkout")
    return folder / "environment" / "bin"


@pytest.mark.slow
def test_the_command_runs_outside_a_checkout(environment: Path, tmp_path: Path) -> None:
    assert call(environment / "rsa", "--help", cwd=tmp_path).startswith("Usage: rsa [OPTIONS] COMMAND [ARGS]...")
    call(environment / "rsa", "recipe", "cifar10", cwd=tmp_path)
    assert "dataset: cifar10" in (tmp_path / "params.yaml").read_text()
    without = subprocess.run([environment / "rsa", "doctor"], cwd=tmp_path, capture_output=True, text=True)
    assert without.returncode == 1
    assert without.stderr.startswith("rsa doctor: error: cannot import name 'dali'")
    assert without.stderr.count("\n") == 1
    assert "rsa-ssl[pipeline" in without.stderr
