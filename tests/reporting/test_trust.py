from pathlib import Path

from rsa.params.document import Params
from rsa.reporting.results import Results, read_scores
from rsa.reporting.trust import passed, started, trust
from tests.reporting.experiment import edit_score, manifest, write_scores


def results(tmp_path: Path, tiny: Params) -> Results:
    return Results(read_scores(tmp_path / "scores", tiny).table, tiny.experiment, 0.95)


def test_floors_passed_are_counted_by_run(tmp_path: Path, tiny: Params):
    scores = write_scores(tmp_path / "scores")
    assert passed("rsa", 0, "random", results(tmp_path, tiny)) == "4 of 6"  # few-shot scores are equal, which is not above
    edit_score(scores / "rsa/s0/probe.json", "knn", value=55.9)  # random: 55 and 57
    got = results(tmp_path, tiny)
    assert passed("rsa", 0, "random", got) == "3 of 6"
    assert passed("rsa", 0, "pixels", got) == "4 of 6"
    assert passed("rsa", 1, "random", got) == "4 of 6"
    (scores / "rsa/s1/probe.json").unlink()
    assert passed("rsa", 1, "random", results(tmp_path, tiny)) == "2 of 4"


def test_equal_environments_have_equal_hashes_and_others_not(tmp_path: Path, tiny: Params):
    write_scores(tmp_path / "scores")
    runs = {("byol", 0): manifest("byol", 0), ("byol", 1): manifest("byol", 1), ("rsa", 0): manifest("rsa", 0, device="cuda")}
    first, same, other = (row.hashes["environment"] for row in trust(runs, results(tmp_path, tiny)))
    assert first == same != other


def test_a_run_that_says_little_has_dashes(tmp_path: Path, tiny: Params):
    write_scores(tmp_path / "scores")
    run = {key: manifest("byol", 0)[key] for key in ("versions", "device")}
    (row,) = trust({("byol", 0): run}, results(tmp_path, tiny))
    assert (row.start, row.encoder, row.health, row.collapsed) == ("-", "-", "-", None)
    assert (row.hashes["params"], row.hashes["code"], row.hashes["data"]) == ("-", "-", "-")


def test_what_an_encoder_started_from():
    assert started({"weights": "random"}) == "random"
    loaded = {"weights": "timm", "loaded": ["a", "b"], "left_random": ["c"], "sha256": "0123456789abcdef"}
    assert started(loaded) == "timm: 2 tensors loaded, 1 left random, `01234567`"
