"""The package in a fresh environment, outside the checkout, with its core dependencies alone."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

import rsa
from rsa.models.backbones import build_backbone
from rsa.models.encoder import save_encoder
from rsa.params.document import Params
from tests.conftest import described
from tests.pages import copy_checkout

LIBRARY = """
import rsa
encoder = rsa.load_encoder("encoder.safetensors")
x = rsa.features(encoder, ".")
assert rsa.knn(x, ["red"], x, k=1).tolist() == ["red"]
assert rsa.build("byol").views.names == ["crop 1, coloured", "crop 2, coloured"]
print(rsa.__file__, *x[0].tolist())
"""


def call(*command: object, cwd: Path) -> str:
    done = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment in which somebody ran `pip install .` in a checkout that is gone."""
    folder = tmp_path_factory.mktemp("wheel")
    copy_checkout(folder / "checkout")
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


@pytest.mark.slow
def test_an_encoder_is_loaded_and_used_outside_a_checkout(environment: Path, tiny: Params, tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_encoder(build_backbone(tiny.model), tmp_path / "encoder.safetensors", described(tiny.model))
    Image.new("RGB", (20, 16), "red").save(tmp_path / "red.png")
    home, *values = call(environment / "python", "-c", LIBRARY, cwd=tmp_path).split()
    assert Path(home).is_relative_to(environment.parent)
    assert (Path(home).parent / "__init__.pyi").is_file()
    want = rsa.features(rsa.load_encoder(tmp_path / "encoder.safetensors"), tmp_path)[0]
    assert [float(value) for value in values] == pytest.approx(want.tolist(), rel=1e-4, abs=1e-6)
