"""`rsa doctor` on the tiny experiment: what it says, and how it ends."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from rsa import checks
from rsa.checks.outcome import FailedError, SkippedError
from rsa.commands import commands
from rsa.params.document import Params
from tests.conftest import TINY, WriteParams
from tests.engines.imports import ROOT


def test_a_sound_machine_passes(write_params: WriteParams) -> None:
    params = write_params({"experiment.methods": ["pixels", "random", "rsa"], "experiment.baseline": "rsa"})
    command = [sys.executable, "-m", "rsa", "doctor", "--params", str(params)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    verdicts = {line.split()[0]: line.split()[1] for line in run.stdout.splitlines() if line.split()[0] in checks.CHECKS}
    assert verdicts.keys() == checks.CHECKS.keys(), run.stderr
    assert {name: verdict for name, verdict in verdicts.items() if verdict == "FAIL"} == {}
    assert run.returncode == 0
    assert "2 ranks equal one to" in run.stdout


def passing(p: Params) -> str:
    return "42 GB free"


def failing(p: Params) -> str:
    raise FailedError("1 GB free")


def skipping(p: Params) -> str:
    raise SkippedError("no GPU")


def broken(p: Params) -> str:
    raise RuntimeError("a traceback of C++\nout of memory")


@pytest.mark.parametrize(
    ("made", "lines", "code"),
    [
        ({"disk": passing, "GPU": skipping}, ["disk     pass     42 GB free", "GPU      skipped  no GPU"], 0),
        ({"disk": failing, "GPU": skipping}, ["disk     FAIL     1 GB free", "GPU      skipped  no GPU"], 1),
        ({"memory": broken, "disk": passing}, ["memory   FAIL     out of memory", "disk     pass     42 GB free"], 1),
    ],
)
def test_a_failed_check_fails_the_doctor_after_all_have_been_made(
    made: dict[str, object], lines: list[str], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "CHECKS", made)
    monkeypatch.setattr("rsa.training.device.setup", lambda *arguments: None)  # of this process's threads and kernels
    found = CliRunner().invoke(commands, ["doctor", "--params", str(TINY)])
    assert (found.stdout.splitlines(), found.exit_code) == (lines, code)
