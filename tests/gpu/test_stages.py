"""Stages and the doctor by their command lines, without DVC and Snakemake."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

pytest.importorskip("nvidia.dali", reason="needs DALI: stages and the doctor are not tested")

from rsa import recipes
from rsa.checks.training import Run, memory
from rsa.data.files import sha256
from rsa.training.memory import peak_above
from tests.conftest import WriteParams
from tests.gpu.device import GPU

ROOT = Path(__file__).parents[2]
KIND = "gpu" if GPU.type == "cuda" else "cpu"
EPOCHS = 60  # of 11 steps each: seconds, within which the run is ended
SHARDS = "data/shards/digits/manifest.json"
START = "weights/none"


@pytest.fixture
def project(tmp_path: Path, write_params: WriteParams) -> Path:
    write_params({
        "runtime.device": KIND, "runtime.probe_gpus": int(KIND == "gpu"), "runtime.on_collapse": "mark",
        "runtime.checkpoint": {"steps": 50, "minutes": 10}, "pretrain.epochs": EPOCHS, "pretrain.precision": "bf16",
    })  # fmt: skip
    (tmp_path / "requirements.lock").touch()  # what digits are said to be made from
    (tmp_path / "weights").mkdir()
    (tmp_path / START).touch()
    return tmp_path


def started(project: Path, module: str, *arguments: str, **flags: object) -> subprocess.Popen[str]:
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", module, *arguments, *(part for k, v in flags.items() for part in (f"--{k}", str(v)))]
    env = {**os.environ, "PYTHONPATH": paths, "SCIPY_ARRAY_API": "1"}
    return subprocess.Popen(command, cwd=project, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def ended(process: subprocess.Popen[str], code: int = 0) -> str:
    output, _ = process.communicate(timeout=200)
    assert process.returncode == code, output
    return output


def stage(project: Path, name: str, **flags: object) -> None:
    ended(started(project, f"pipeline.{name}", **flags))


def pretraining(project: Path, out: str) -> subprocess.Popen[str]:
    return started(project, "pipeline.pretrain", method="byol", seed=0, shards=SHARDS, start=START, out=out)


def terminate_in_the_middle(process: subprocess.Popen[str], project: Path) -> None:
    """End a training once it has a row in its curve, and before its end."""
    while process.poll() is None and not any(curve.stat().st_size > 100 for curve in project.rglob(".work/**/curve.csv")):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert "run again to continue" in ended(process, code=75)


def test_stages_by_their_command_lines(project: Path):
    stage(project, "code", out="code")
    stage(project, "shard", dataset="digits", raw="requirements.lock", out="data/shards/digits")
    terminate_in_the_middle(pretraining(project, "killed"), project)
    straight, continued = pretraining(project, "straight"), pretraining(project, "killed")
    ended(straight)
    ended(continued)
    assert sha256(project / "killed/encoder.safetensors") == sha256(project / "straight/encoder.safetensors")
    assert (project / "killed/curve.csv").read_text() == (project / "straight/curve.csv").read_text()

    run = json.loads((project / "straight/run.json").read_text())
    assert run["device"] == GPU.type
    if GPU.type == "cuda":
        assert run["runtime"]["device"] == torch.cuda.get_device_name(0)
        assert run["views_differ_from_cpu"].keys() == {"share", "mean"}
        assert run["views_differ_from_cpu"]["mean"] < 2

    stage(project, "extract", encoder="straight/encoder.safetensors", shards=SHARDS, out="features")
    stage(project, "probe", seed=0, features="features", out="probe.json")
    stage(project, "representation_metrics", snapshots="straight/snapshots", shards=SHARDS, seed=0, out="metrics.csv")
    scores = json.loads((project / "probe.json").read_text())
    assert min(score["value"] for score in scores.values()) > 20  # chance is 10; on two CPUs the least was 27 and above 30
    assert len((project / "metrics.csv").read_text().splitlines()) == 3  # before and after training


def test_the_doctor_passes(project: Path, record_property: Callable[[str, object], None]):
    said = ended(started(project, "rsa", "doctor"))
    assert "FAIL" not in said
    for line in said.splitlines():
        if line.split()[1:2] in (["pass"], ["skipped"]):  # torch warns in other lines
            name, words = line.split(maxsplit=1)
            record_property(f"doctor, {name}", words)


@pytest.mark.parametrize("recipe", ["cifar10", "imagenet100"])
def test_the_doctor_predicts_the_memory_of_a_step(recipe: str, record_property: Callable[[str, object], None]):
    """From small batches, by a straight line."""
    p = recipes.load_recipe(recipe)
    size = (p.pretrain.batch_size if recipe == "cifar10" else 128) if GPU.type == "cuda" else 40
    pretrain = p.pretrain.model_copy(update={"batch_size": size, "accumulate": 1})
    experiment = p.experiment.model_copy(update={"methods": ["byol"]})
    p = p.model_copy(update={"pretrain": pretrain, "experiment": experiment})
    if GPU.type == "cpu" and recipe == "imagenet100":
        pytest.skip("takes too long on a CPU")
    predicted = float(memory(p).split()[1])  # byol 1.23 GB ...
    measured = peak_above(lambda: Run(p, "byol", size, GPU).train(0, 1, p.pretrain.precision), GPU) / 1e9
    record_property(
        f"memory of {recipe}, {size} images",
        f"predicted {predicted:.2f} GB, measured {measured:.2f} GB, ratio {predicted / measured:.2f}",
    )
    assert predicted == pytest.approx(measured, rel=0.25)
