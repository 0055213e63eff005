"""The made-up experiment as files."""

from pathlib import Path

import pytest

from rsa.params.document import Params
from tests.reporting.experiment import write_quality, write_runs, write_scores


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    """The folder of scores of the made-up experiment."""
    return write_scores(tmp_path / "scores")


@pytest.fixture
def made(tmp_path: Path, tiny: Params) -> Path:
    """Scores and runs of the made-up experiment."""
    write_scores(tmp_path / "scores")
    write_runs(tmp_path / "runs", tiny)
    write_quality(tmp_path / "scores", tiny)
    return tmp_path
