"""The GPU benchmark's rows run: time on a GPU is too dear to learn there that one does not."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("rows", ["A1,A5,F", pytest.param("A2,A4,B,E,H,C,D,G", marks=pytest.mark.slow)])
def test_rows_of_the_gpu_benchmark_run_on_a_cpu(rows: str, tmp_path: Path):
    command = [sys.executable, "benchmarks/gpu.py", "--device", "cpu", "--quick", "--minutes", "9", "--rows", rows]
    run = subprocess.run([*command, "--out", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert " failed" not in run.stdout
    assert {each["row"] for each in json.loads((tmp_path / "gpu.json").read_text())["numbers"]} == set(rows.split(","))
