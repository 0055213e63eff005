from pathlib import Path

import pytest

from rsa.params.document import Params
from rsa.reporting.runs import differences, read_runs
from rsa.reporting.scores import Missing
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


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b"\xff\xfe\x00", b"step,loss\n1,2\n2", b"a,b\n1,2\n", b"step,loss\n1,x\n"]
)
@pytest.mark.parametrize("file", ["runs/rsa/s1/run.json", "runs/rsa/s1/curve.csv", "scores/rsa/s1/representation.csv"])
def test_a_damaged_file_is_named_and_the_others_are_read(made: Path, tiny: Params, file: str, content: bytes):
    whole = read_runs(made / "runs", made / "scores", tiny)
    (made / file).write_bytes(content)
    got = read_runs(made / "runs", made / "scores", tiny)
    stage = "representation_metrics" if file.startswith("scores") else "pretrain"
    assert [(item.file, item.command) for item in got.missing] == [(file, f"dvc repro {stage}@rsa-1")]
    assert got.missing[0].reason.startswith("is cut off or damaged: ")
    kept = [len(got.manifests), *(sum(map(len, tables.values())) for tables in (got.curves, got.metrics))]
    assert (len(whole.manifests), sum(kept)) == (4, 3 * 4 - 1)


def test_runs_of_one_environment_do_not_differ():
    """On whatever devices."""
    assert differences({}) == []
    assert differences({("byol", s): manifest("byol", s, device=device) for s, device in enumerate(("cpu", "cpu", "cuda"))}) == []
