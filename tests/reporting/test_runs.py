from pathlib import Path

import pytest

from rsa.params.document import Params
from rsa.reporting.results import Missing
from rsa.reporting.runs import read_runs, require_same
from tests.reporting.experiment import manifest


def test_all_runs_are_read_but_for_controls(made: Path, tiny: Params):
    got = read_runs(made / "runs", made / "scores", tiny)
    assert list(got.manifests) == [("byol", 0), ("byol", 1), ("rsa", 0), ("rsa", 1)]
    assert {method: list(seeds) for method, seeds in got.curves.items()} == {"byol": [0, 1], "rsa": [0, 1]}
    assert len(got.curves["rsa"][1]) == 30
    assert {method: list(seeds) for method, seeds in got.metrics.items()} == {"byol": [0, 1], "rsa": [0, 1]}
    assert got.missing == []


def test_what_is_not_there_is_named(made: Path, tiny: Params):
    (made / "runs/rsa/s1/curve.csv").unlink()
    (made / "runs/byol/s0/run.json").unlink()
    got = read_runs(made / "runs", made / "scores", tiny)
    assert got.missing == [
        Missing("runs/byol/s0/run.json", "does not exist", "dvc repro pretrain@byol-0"),
        Missing("runs/rsa/s1/curve.csv", "does not exist", "dvc repro pretrain@rsa-1"),
    ]
    assert ("byol", 0) not in got.manifests
    assert list(got.curves["rsa"]) == [0]


def test_quality_that_is_not_there_is_named(made: Path, tiny: Params):
    (made / "scores/rsa/s1/representation.csv").unlink()
    got = read_runs(made / "runs", made / "scores", tiny)
    assert got.missing == [
        Missing("scores/rsa/s1/representation.csv", "does not exist", "dvc repro representation_metrics@rsa-1")
    ]
    assert list(got.metrics["rsa"]) == [0]


def test_runs_of_one_environment_may_be_compared():
    """On whatever devices."""
    require_same({})
    require_same({("byol", seed): manifest("byol", seed, device=device) for seed, device in enumerate(("cpu", "cpu", "cuda"))})
    with pytest.raises(ValueError, match=r"all runs must have the same parameters.*'byol s1': 7"):
        require_same({("byol", 0): manifest("byol", 0), ("byol", 1): manifest("byol", 1, parameters=7)})
