"""`runtime.portable`: the kernels of every x86-64 processor with AVX2, whatever this one has."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.portable import LIMITS, has_avx2, start_again_limited
from tests.conftest import TINY
from tests.engines.imports import ROOT

SMALLER = {
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "MKL_CBWR": "COMPATIBLE",
    "OPENBLAS_CORETYPE": "Prescott",
}
FREE = {key: value for key, value in os.environ.items() if key not in LIMITS}
STARTS = """
import sys
from pipeline.portable import start_again_limited
print("started", sys.argv[1:], flush=True)
start_again_limited()
import torch
print(torch.backends.cpu.get_cpu_capability())
"""


@pytest.mark.skipif(not has_avx2(), reason="the processor has no AVX2")
def test_a_process_starts_again_once_with_the_limits_and_its_arguments():
    for limits, times in ((SMALLER, 2), ({}, 2), (LIMITS, 1)):
        command = [sys.executable, "-c", STARTS, "a b", "c"]
        printed = subprocess.run(command, env=FREE | limits, capture_output=True, text=True, check=True, cwd=ROOT).stdout
        assert printed.split("\n") == ["started ['a b', 'c']"] * times + ["AVX2", ""]


def test_a_processor_without_avx2_goes_on_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "cpuinfo").write_text("processor : 0\nflags : fpu sse4_2 avx\n")
    assert not has_avx2(tmp_path / "cpuinfo")
    assert not has_avx2(tmp_path / "none")
    monkeypatch.setattr("pipeline.portable.has_avx2", lambda: False)
    monkeypatch.setattr(os, "execve", pytest.fail)
    monkeypatch.delenv("MKL_CBWR", raising=False)
    start_again_limited()
    assert "no AVX2" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(not has_avx2(), reason="the processor has no AVX2")
def test_encoders_features_and_scores_are_the_same_under_every_limit(tmp_path: Path):
    """Without `portable`, they differ: otherwise this test would show nothing."""
    made = {(portable, name): _made(tmp_path / f"{portable}_{name}", portable, limits)
            for portable in (True, False) for name, limits in (("own", {}), ("smaller", SMALLER))}  # fmt: skip
    assert made[True, "own"] == made[True, "smaller"]
    assert made[False, "own"]["encoder.safetensors"] != made[False, "smaller"]["encoder.safetensors"]


def _made(root: Path, portable: bool, limits: dict[str, str]) -> dict[str, str]:
    """Run the stages of one method in a copy of the project; return each output's sha256 by name."""
    for name in ("pipeline", "rsa"):
        shutil.copytree(ROOT / name, root / name)
    (root / "weights").mkdir()
    for name in ("requirements.lock", "weights/none"):
        (root / name).touch()
    yaml = YAML()
    document = yaml.load(TINY)
    document["runtime"]["portable"] = portable
    yaml.dump(document, root / "params.yaml")
    dataset = document["experiment"]["dataset"]
    shards = f"data/shards/{dataset}"
    for stage in (
        "code --out code",
        f"shard --dataset {dataset} --raw requirements.lock --out {shards}",
        f"pretrain --method byol --seed 0 --shards {shards}/manifest.json --start weights/none --out run",
        f"extract --encoder run/encoder.safetensors --shards {shards}/manifest.json --out features",
        "probe --seed 0 --features features --out probe.json",
    ):
        subprocess.run([sys.executable, "-m", *f"pipeline.{stage}".split()], cwd=root, env=FREE | limits, check=True)
    files = [root / "run/encoder.safetensors", *sorted((root / "features").rglob("*.*")), root / "probe.json"]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
