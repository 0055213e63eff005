"""The table of scores has what is there and comparable, and names the rest."""

import json
from pathlib import Path

import pytest

from rsa.params.document import Params
from rsa.reporting.scores import Column, Missing, Scores, digest, read_scores
from tests.reporting.experiment import KNN_LESS, TOP1, TRANSFER_LESS, edit_score

KNN = Column("digits", "knn", "knn", "top1")


def test_table_has_a_row_for_every_method_seed_and_task(scores: Path, tiny: Params):
    table = read_scores(scores, scores.parent / "runs", tiny).table
    assert len(table) == 4 * 2 * 6
    top1 = {(row.method, row.seed, row.dataset, row.task): row.value for row in table.itertuples()}
    assert len(top1) == len(table)
    for (method, seed), score in TOP1.items():
        assert top1[method, seed, "digits", "sklearn"] == score
        assert top1[method, seed, "digits", "knn"] == score - KNN_LESS
        assert top1[method, seed, "photo_tiles", "sklearn"] == score - TRANSFER_LESS
        assert top1[method, seed, "photo_tiles", "2_shot"] == 40.0


def test_every_number_can_be_traced_to_its_file(scores: Path, tiny: Params):
    for row in read_scores(scores, scores.parent / "runs", tiny).table.itertuples():
        score = json.loads((scores.parent / row.file).read_text())[row.task]
        assert (score["value"], score["metric"], score["protocol"]) == (row.value, row.metric, row.protocol)
        assert row.file.startswith(f"scores/{row.method}/s{row.seed}/")


def test_scores_outside_the_experiment_are_ignored(scores: Path, tiny: Params):
    (scores / "simclr/s0").mkdir(parents=True)
    (scores / "rsa/s9").mkdir()
    (scores / "rsa/s0/linear_digits_lightly.json").write_text("{}")  # of an experiment before
    assert set(read_scores(scores, scores.parent / "runs", tiny).table["seed"]) == {0, 1}


@pytest.mark.parametrize(
    ("missing", "how"),
    [
        ("rsa/s1/probe.json", "dvc repro probe@rsa-1"),
        ("pixels/s0/transfer_photo_tiles.json", "dvc repro transfer@pixels-0-photo_tiles"),
        ("byol/s0/transfer_photo_tiles.json", "dvc repro transfer@byol-0-photo_tiles"),
    ],
)
def test_a_missing_file_is_named_with_its_command_and_the_others_are_read(scores: Path, tiny: Params, missing: str, how: str):
    whole = read_scores(scores, scores.parent / "runs", tiny)
    (scores / missing).unlink()
    got = read_scores(scores, scores.parent / "runs", tiny)
    assert got.missing == [Missing(f"scores/{missing}", "does not exist", how)]
    assert whole.missing == []
    gone = whole.table["file"] == f"scores/{missing}"
    assert len(got.table) == len(whole.table) - gone.sum()


def test_a_file_that_is_cut_off_or_of_an_older_version_is_missing(scores: Path, tiny: Params):
    for number, content in enumerate((b"\xff\xfe", b"[1]", b'{"knn": 1}', b"null")):
        other = scores / f"{('pixels', 'random')[number % 2]}/s{number // 2}/probe.json"
        other.write_bytes(content)
    cut = scores / "rsa/s0/probe.json"
    cut.write_text(cut.read_text()[:40])
    old = scores / "byol/s1/probe.json"
    old.write_text(json.dumps({"knn": {"top1": 80.0}}))
    reasons = {item.file: item.reason for item in read_scores(scores, scores.parent / "runs", tiny).missing}
    for name in ("rsa/s0", "pixels/s0", "random/s0", "pixels/s1", "random/s1"):
        assert reasons[f"scores/{name}/probe.json"] == "is cut off or damaged"
    assert reasons["scores/byol/s1/probe.json"] == "has no 'origin': an older version made it"


def test_no_score_at_all_is_no_report(tmp_path: Path, tiny: Params):
    (tmp_path / "scores").mkdir()
    with pytest.raises(ValueError, match="must have scores of pixels, random, byol, rsa, got none"):
        read_scores(tmp_path / "scores", tmp_path / "runs", tiny)


def test_a_score_under_other_settings_is_left_out_by_name(scores: Path, tiny: Params):
    edit_score(scores / "rsa/s1/probe.json", "knn", settings={"classifier": "knn", "k": [200], "temperature": 0.1})
    got = read_scores(scores, scores.parent / "runs", tiny)
    differ = "k [200], the others with [5]; temperature 0.1, the others with 0.07"
    assert got.refused == [f"scores/rsa/s1/probe.json: knn was measured with {differ}"]
    rows = got.table.query("task == 'knn' and dataset == 'digits' and method == 'rsa'")
    assert rows["seed"].tolist() == [0]


def test_of_equally_many_the_baselines_settings_count(scores: Path, tiny: Params):
    for method in ("rsa", "random"):
        for seed in (0, 1):
            edit_score(scores / f"{method}/s{seed}/probe.json", "knn", settings={"k": [200]})
    files = {line.partition(":")[0] for line in read_scores(scores, scores.parent / "runs", tiny).refused}
    assert files == {f"scores/{method}/s{seed}/probe.json" for method in ("rsa", "random") for seed in (0, 1)}


def test_datasets_that_the_field_reports_by_class_are_another_metric(scores: Path, tiny: Params):
    report = tiny.report.model_copy(update={"mean_per_class": ["photo_tiles"]})
    table = read_scores(scores, scores.parent / "runs", tiny.model_copy(update={"report": report})).table
    tiles = table[table["dataset"] == "photo_tiles"]
    assert set(tiles["metric"]) == {"mean_per_class"}
    assert set(table[table["dataset"] == "digits"]["metric"]) == {"top1"}
    row = tiles.query("method == 'byol' and seed == 0 and task == 'sklearn'")
    assert row["value"].item() == TOP1["byol", 0] - TRANSFER_LESS - 1  # as experiment.py writes it


def test_settings_are_told_apart_by_value_not_by_order():
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1}) != digest({"a": 1, "b": [3]})


def test_probes_that_have_not_converged_are_named(scores: Path, tiny: Params):
    edit_score(scores / "rsa/s0/probe.json", "sklearn", converged=False)
    assert read_scores(scores, scores.parent / "runs", tiny).unconverged == ["scores/rsa/s0/probe.json: sklearn"]


def test_a_scores_object_says_settings_and_file_of_each_column(scores: Path, tiny: Params):
    got: Scores = read_scores(scores, scores.parent / "runs", tiny)
    assert got.settings[got.of_columns("settings")[KNN]] == {"classifier": "knn", "k": [5], "temperature": 0.07}
    assert got.of_columns("file")[KNN].endswith("/probe.json")
