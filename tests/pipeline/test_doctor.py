"""The doctor on the tiny experiment: what it says, and that its checks can fail."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torchvision.transforms.v2.functional import resized_crop

from pipeline import doctor
from rsa.params.document import Params
from rsa.training.checkpoint import restore
from tests.engines.imports import ROOT


def test_a_sound_machine_passes():
    command = [sys.executable, "-m", "pipeline.doctor", "--params", "tests/tiny.yaml"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    verdicts = {line.split()[0]: line.split()[1] for line in run.stdout.splitlines() if line.split()[0] in doctor.CHECKS}
    assert verdicts.keys() == doctor.CHECKS.keys(), run.stderr
    assert {name: verdict for name, verdict in verdicts.items() if verdict == "FAIL"} == {}
    assert run.returncode == 0
    assert "2 ranks equal one to" in run.stdout


def test_a_resume_that_loses_something_fails(tiny: Params, monkeypatch: pytest.MonkeyPatch):
    def forgetful(state, model, optimizer):
        restore(state, model, optimizer)
        optimizer.state.clear()  # momentum

    monkeypatch.setattr(doctor, "restore", forgetful)
    with pytest.raises(doctor.FailedError, match=r"byol: \d+ tensors differ"):
        doctor.resuming(tiny)


def test_wrong_colours_fail(tiny: Params, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor, "apply_colors", lambda images, colors: torch.zeros_like(images))
    with pytest.raises(doctor.FailedError, match="mean difference from torchvision up to"):
        doctor.colors(tiny)


def test_a_crop_that_is_not_flipped_fails(tiny: Params, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor.tv, "resized_crop", lambda image, *box: resized_crop(image.flip(1), *box))
    with pytest.raises(doctor.FailedError, match=r"an image differs from torchvision's by \d+\.\d+ of 255 on average"):
        doctor.crops(tiny)


def test_more_memory_than_there_is_fails(tiny: Params, monkeypatch: pytest.MonkeyPatch):
    assert "images at once" in doctor.memory(tiny)
    monkeypatch.setattr(doctor, "available", lambda: 1_000_000)
    with pytest.raises(doctor.FailedError, match=r"byol \d\.\d+ GB, rsa .* GB free here: raise pretrain.accumulate or lower"):
        doctor.memory(tiny)


def test_memory_grows_with_the_batch_and_shrinks_with_its_parts(tiny: Params, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor, "available", lambda: 10**15)

    def gigabytes(**changes: object) -> float:
        p = tiny.model_copy(update={"pretrain": tiny.pretrain.model_copy(update=changes)})
        return float(doctor.memory(p).split()[1])

    whole, parts = gigabytes(batch_size=65536), gigabytes(batch_size=65536, accumulate=4)
    assert whole > 2 * parts > 0


def test_a_full_disk_fails(tiny: Params, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor, "FREE_GB", 1e9)
    with pytest.raises(doctor.FailedError, match="GB free here, at least"):
        doctor.disk(tiny)


def test_a_wrong_path_is_named():
    command = [sys.executable, "-m", "pipeline.doctor", "--params", "nowhere.yaml"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (1, "doctor: error: nowhere.yaml does not exist: copy one of recipes/*.yaml to it\n")
    assert Path(ROOT / "recipes").is_dir()
