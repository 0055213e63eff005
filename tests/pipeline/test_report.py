from pathlib import Path

import pytest

from pipeline.report import read_experiment
from tests.conftest import TINY


@pytest.mark.parametrize("content", ["", "experiment: {", TINY.read_text()[:500], "a:\n\tb"])
def test_an_experiment_that_is_damaged_is_named_in_one_line(content: str, tmp_path: Path):
    path = tmp_path / "experiment.yaml"
    path.write_text(content)
    with pytest.raises(ValueError, match=rf"^{path} is [^\n]+$"):
        read_experiment(path)
