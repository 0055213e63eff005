"""`rsa show` on the scores and logs of an experiment that was never run."""

import json
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from rsa.commands import commands
from rsa.params.document import Params
from rsa.reporting.scores import read_scores
from tests.conftest import TINY
from tests.reporting.experiment import write_scores


@pytest.fixture
def made(tmp_path: Path, tiny: Params) -> Path:
    """reports/ and logs/ as the stages leave them."""
    table = read_scores(write_scores(tmp_path / "scores"), tmp_path / "runs", tiny).table
    (tmp_path / "reports").mkdir()
    table.to_csv(tmp_path / "reports" / "scores.csv", index=False)
    (tmp_path / "logs").mkdir()
    for seed, resumed in ((0, False), (1, True)):
        entry = {"stage": f"pretrain@byol-{seed}", "method": "byol", "seconds": 30.2, "resumed": resumed, "host": "here"}
        (tmp_path / "logs" / f"pretrain@byol-{seed}.json").write_text(json.dumps(entry))
    return tmp_path


def show(folder: Path) -> Result:
    given = ["--params", str(TINY), "--reports", str(folder / "reports"), "--logs", str(folder / "logs")]
    return CliRunner().invoke(commands, ["show", *given])


def test_scores_differences_seconds_and_resumed_runs_are_shown(made: Path) -> None:
    found = show(made)
    assert found.exit_code == 0, found.output
    assert "80.5 ± 0.7 (2)" in found.output  # byol's linear probe: 80 and 81
    assert "rsa − byol" in found.output
    assert "seconds on here, stages of a kind added up (how many): pretrain byol 60 s (2)" in found.output
    assert "resumed from a checkpoint: pretrain@byol-1" in found.output
    assert found.output.endswith(f"report: {made}/reports/report.md\n")


def test_a_report_of_another_experiment_is_named(made: Path) -> None:
    """As after `rsa recipe`, before anything has run."""
    scores = made / "reports" / "scores.csv"
    scores.write_text(scores.read_text().replace("\nrsa,", "\nsimclr,"))
    found = show(made)
    assert (found.exit_code, found.stdout) == (1, "")
    assert found.stderr.startswith("rsa show: error: ")
    assert "simclr" in found.stderr


def test_a_report_of_an_older_version_is_named(made: Path) -> None:
    scores = made / "reports" / "scores.csv"
    pd.read_csv(scores).drop(columns="step").to_csv(scores, index=False)
    found = show(made)
    assert (found.exit_code, found.stdout) == (1, "")
    assert found.stderr == f"rsa show: error: {scores} has no step, as an older version made it: run `dvc repro`\n"


def test_a_missing_report_is_named_with_what_to_do(tmp_path: Path) -> None:
    found = show(tmp_path)
    expected = (
        f"rsa show: error: {tmp_path}/reports/scores.csv does not exist: run the pipeline first (`snakemake` or `dvc repro`)"
    )
    assert (found.exit_code, found.stderr) == (1, f"{expected}\n")
