from pathlib import Path

from rsa.params.document import Params
from rsa.reporting.provenance import passed, run_provenance, runtime_differences, started
from rsa.reporting.results import Results
from rsa.reporting.scores import read_scores
from tests.reporting.experiment import RUNTIME, edit_score, manifest, write_scores


def results(tmp_path: Path, tiny: Params) -> Results:
    return Results(read_scores(tmp_path / "scores", tmp_path / "runs", tiny).table, tiny)


def test_controls_passed_are_counted_by_run(tmp_path: Path, tiny: Params):
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
    first, same, other = (row.hashes["environment"] for row in run_provenance(runs, results(tmp_path, tiny)))
    assert first == same != other


def test_a_run_that_says_little_has_dashes(tmp_path: Path, tiny: Params):
    write_scores(tmp_path / "scores")
    run = {key: manifest("byol", 0)[key] for key in ("versions", "device")}
    (row,) = run_provenance({("byol", 0): run}, results(tmp_path, tiny))
    assert (row.start, row.encoder, row.health, row.collapsed) == ("–", "–", "–", None)
    assert (row.hashes["params"], row.hashes["code"], row.hashes["data"]) == ("–", "–", "–")


def test_what_an_encoder_started_from():
    assert started({"weights": "random"}) == "random"
    loaded = {"weights": "timm", "loaded": ["a", "b"], "left_random": ["c"], "sha256": "0123456789abcdef"}
    assert started(loaded) == "timm: 2 tensors loaded, 1 left random, `01234567`"


def test_a_setting_of_the_runtime_in_which_runs_differ_is_named():
    runs = {(method, seed): manifest(method, seed) for method in ("byol", "rsa") for seed in (0, 1)}
    assert runtime_differences(runs) == []
    runs["byol", 1] = manifest("byol", 1, runtime={**RUNTIME, "threads": 4})
    runs["rsa", 0] = manifest("rsa", 0, runtime={**RUNTIME, "device": "a GPU", "threads": 8})
    assert runtime_differences(runs) == [
        "device was a processor in byol s0, byol s1, rsa s1; a GPU in rsa s0.",
        "threads was 1 in byol s0, rsa s1; 4 in byol s1; 8 in rsa s0.",
    ]


def test_runs_that_do_not_say_their_runtime_differ_from_those_that_do():
    runs = {("byol", seed): manifest("byol", seed, runtime={"threads": 1}) for seed in (0, 1)}
    old = manifest("byol", 2)
    del old["runtime"]
    assert runtime_differences(runs | {("byol", 2): old}) == ["threads was 1 in byol s0, byol s1; None in byol s2."]
    assert runtime_differences({("byol", 2): old}) == runtime_differences({}) == []
