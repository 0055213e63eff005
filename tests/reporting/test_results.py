import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from rsa.params.document import Params
from rsa.reporting.grid import command, score_files
from rsa.reporting.results import Results
from rsa.reporting.scores import Column, Missing, Scores, digest, read_scores
from tests.engines.imports import ROOT
from tests.engines.toy import load_yaml
from tests.reporting.experiment import KNN_LESS, TOP1, TRANSFER_LESS, edit_score, write_scores

LINEAR = Column("digits", "sklearn", "sklearn", "top1")
KNN = Column("digits", "knn", "knn", "top1")


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    return write_scores(tmp_path / "scores")


def results(scores: Path, p: Params, confidence: float = 0.95) -> Results:
    p = p.model_copy(update={"report": p.report.model_copy(update={"confidence": confidence})})
    return Results(read_scores(scores, scores.parent / "runs", p).table, p)


def with_experiment(p: Params, **changes: object) -> Params:
    return p.model_copy(update={"experiment": p.experiment.model_copy(update=changes)})


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


# ---- what is missing ----


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


def test_cells_with_fewer_seeds_are_summarised_over_what_is_there(scores: Path, tiny: Params):
    (scores / "rsa/s1/probe.json").unlink()
    got = results(scores, tiny)
    assert (got.summary("rsa", LINEAR).mean, got.summary("rsa", LINEAR).n) == (82.0, 1)
    assert got.summary("byol", LINEAR).n == 2
    comparison = next(c for c in got.comparisons() if c.column == LINEAR)
    assert comparison.difference.n == 1
    assert math.isnan(comparison.p)
    (scores / "rsa/s0/probe.json").unlink()
    got = results(scores, tiny)
    assert got.summary("rsa", LINEAR).n == 0
    assert next(c for c in got.comparisons() if c.column == LINEAR).difference is None
    assert "digits sklearn: no seed has scores of both rsa and byol." in got.sentences()


def stage_names() -> set[str]:
    """What DVC calls the stages of this project, with the params that lie here."""
    python = [sys.executable, "-m", "dvc", "stage", "list", "--name-only", "--all"]
    done = subprocess.run(python, cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_commands_name_stages_that_dvc_knows(tiny: Params):
    names = stage_names()
    quickstart = {"dataset": "translated_digits", "transfer": ["small_digits"]}
    for file in score_files(with_experiment(tiny, **quickstart)):
        for method in ("byol", "rsa", "pixels", "random"):
            assert command(method, 0, file).removeprefix("dvc repro ") in names


def test_a_command_has_the_items_in_the_order_of_the_stages_matrix():
    stages = load_yaml(ROOT / "dvc.yaml")["stages"]
    want = {
        "probe": ["method", "seed"],
        "transfer": ["method", "seed", "dataset"],
        "linear": ["method", "seed", "dataset", "protocol"],
        "finetune": ["method", "seed", "dataset", "percent"],
        "detect": ["method", "seed", "detection"],
        "robustness": ["method", "seed", "dataset"],
        "representation_metrics": ["method", "seed"],
    }
    assert {name: list(stages[name]["matrix"]) for name in want} == want
    assert command("rsa", 1, "detect_voc07.json") == "dvc repro detect@rsa-1-voc07"
    assert command("rsa", 1, "robustness_photo_tiles.json") == "dvc repro robustness@rsa-1-photo_tiles"


def test_a_dataset_may_have_an_underscore_where_protocols_have_none():
    assert command("rsa", 1, "linear_photo_tiles_rsa-small.json") == "dvc repro linear@rsa-1-photo_tiles-rsa-small"
    assert command("rsa", 1, "finetune_photo_tiles_10/scores.json") == "dvc repro finetune@rsa-1-photo_tiles-10"


# ---- what is comparable ----


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


@pytest.mark.parametrize("change", [{"protocol": "knn-dino"}, {"metric": "mean_average_precision"}])
def test_another_protocol_or_metric_is_another_column(scores: Path, tiny: Params, change: dict[str, str]):
    for seed in (0, 1):
        edit_score(scores / f"rsa/s{seed}/probe.json", "knn", **change)
    got = results(scores, tiny)
    mine = [task for task in got.tasks if task[:2] == ("digits", "knn")]
    assert len(mine) == 2
    assert {(method, task) for method in ("byol", "rsa") for task in mine if got.summary(method, task).n} == {
        ("byol", mine[0]),
        ("rsa", mine[1]),
    }
    assert all(c.difference is None for c in got.comparisons() if c.column in mine)
    assert len({got.name(task) for task in mine}) == 2


def test_datasets_that_the_field_reports_by_class_are_another_metric(scores: Path, tiny: Params):
    report = tiny.report.model_copy(update={"mean_per_class": ["photo_tiles"]})
    table = read_scores(scores, scores.parent / "runs", tiny.model_copy(update={"report": report})).table
    tiles = table[table["dataset"] == "photo_tiles"]
    assert set(tiles["metric"]) == {"mean_per_class"}
    assert set(table[table["dataset"] == "digits"]["metric"]) == {"top1"}
    row = tiles.query("method == 'byol' and seed == 0 and task == 'sklearn'")
    assert row["value"].item() == TOP1["byol", 0] - TRANSFER_LESS - 1  # as experiment.py writes it


def test_best_on_test_is_a_column_of_its_own_with_the_optimism(scores: Path, tiny: Params):
    for seed, best in ((0, 83.0), (1, 84.1)):  # ours: 82.0, 83.1
        edit_score(scores / f"rsa/s{seed}/probe.json", "sklearn", best_on_test=best)
    got = results(scores, tiny)
    best, gap = got.optimism("rsa", LINEAR)
    assert (best.mean, best.n, gap) == pytest.approx((83.55, 2, 1.0))
    assert got.summary("rsa", LINEAR).mean == pytest.approx(82.55)  # unchanged
    assert got.optimism("byol", LINEAR) is None


def test_settings_are_told_apart_by_value_not_by_order():
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1}) != digest({"a": 1, "b": [3]})


def test_probes_that_have_not_converged_are_named(scores: Path, tiny: Params):
    edit_score(scores / "rsa/s0/probe.json", "sklearn", converged=False)
    assert read_scores(scores, scores.parent / "runs", tiny).unconverged == ["scores/rsa/s0/probe.json: sklearn"]


# ---- comparisons ----


def test_cells_by_hand(scores: Path, tiny: Params):
    got = results(scores, tiny)
    assert list(got.rows) == ["pixels", "random", "byol", "rsa"]
    assert {task[:2] for task in got.tasks} == {
        *(("digits", task) for task in ("knn", "sklearn")),
        *(("photo_tiles", task) for task in ("knn", "sklearn", "1_shot", "2_shot")),
    }
    summary = got.summary("byol", LINEAR)
    assert (summary.mean, summary.sd, summary.n) == pytest.approx((80.5, 0.7071068, 2))
    comparison = next(c for c in got.comparisons() if c.column == LINEAR)
    difference = comparison.difference
    # differences 2.0 and 2.1: mean 2.05, sd 0.0707, t(0.975, 1) = 12.7062, half-width 0.6353
    assert (difference.mean, difference.low, difference.high) == pytest.approx((2.05, 1.41469, 2.68531), abs=1e-4)
    # p = 2 (1/2 - atan(t) / pi) with t = 2.05 / 0.05 = 41: 0.015525; the smallest of 6
    assert difference.p == pytest.approx(2 * (0.5 - math.atan(41) / math.pi))
    assert comparison.p == pytest.approx(6 * difference.p)
    assert comparison.significant_uncorrected
    assert not comparison.significant


def test_the_baseline_stands_before_the_other_methods(scores: Path, tiny: Params):
    got = results(scores, with_experiment(tiny, baseline="rsa"))
    assert list(got.rows) == ["pixels", "random", "rsa", "byol"]
    assert next(c for c in got.comparisons() if c.column == LINEAR).difference.mean == pytest.approx(-2.05)


def sentence(scores: Path, p: Params, confidence: float = 0.95) -> str:
    return next(line for line in results(scores, p, confidence).sentences() if line.startswith("digits sklearn"))


def test_sentences_say_what_is_significant(scores: Path, tiny: Params):
    better = "digits sklearn: rsa better than byol by 2.1 ± 0.3 points, 2 seeds."
    for seed in (0, 1):
        edit_score(scores / f"rsa/s{seed}/probe.json", "sklearn", value=TOP1["byol", seed] + 2.1)
    edit_score(scores / "rsa/s1/probe.json", "sklearn", value=TOP1["byol", 1] + 2.101)  # t = 2.1005 / 0.0005 = 4201
    got = sentence(scores, tiny)
    assert got == better.replace("0.3", "0.0")  # 12.7062 x 0.0005 = 0.006
    assert sentence(scores, with_experiment(tiny, baseline="rsa")).startswith("digits sklearn: byol worse than rsa by 2.1 ± 0.0")


def test_a_difference_significant_before_correction_only_is_said_to_be(scores: Path, tiny: Params):
    want = "2 seeds; significant before, but not after, correction for 6 comparisons."
    assert sentence(scores, tiny) == f"digits sklearn: rsa better than byol by 2.0 ± 0.6 points, {want}"


def test_without_significance_the_sentence_gives_the_minimum_detectable_difference(scores: Path, tiny: Params):
    """sd 0.0707; two seeds find 0.0707 x 57.69 with 80 % power at 99 %: the ratio is tested by simulation."""
    got = sentence(scores, tiny, confidence=0.99)  # half-width 63.657 x 0.05 = 3.18
    want = "digits sklearn: no significant difference between rsa and byol (+2.0 ± 3.2 points); with 2 seeds, "
    assert got == f"{want}the minimum detectable difference is 4.1 points."


def test_equal_scores_are_called_equal(scores: Path, tiny: Params):
    assert "photo_tiles 1_shot: rsa and byol have equal scores in each of 2 seeds." in results(scores, tiny).sentences()


def test_one_seed_cannot_tell(scores: Path, tiny: Params):
    got = results(scores, with_experiment(tiny, seeds=[1]))
    assert "digits sklearn: one seed cannot tell rsa from byol." in got.sentences()


def test_what_is_below_a_control_is_named(scores: Path, tiny: Params):
    for seed in (0, 1):
        edit_score(scores / f"rsa/s{seed}/probe.json", "knn", value=50.0)  # pixels 45, random 55 and 57
    assert results(scores, tiny).below_controls() == ["Below the control random: digits knn (rsa)."]


def test_a_control_may_have_no_score_of_a_task(scores: Path, tiny: Params):
    """Its file is there, and empty: nothing is missing, and nothing is below it."""
    for seed in (0, 1):
        (scores / f"pixels/s{seed}/transfer_photo_tiles.json").write_text("{}")
    assert read_scores(scores, scores.parent / "runs", tiny).missing == []
    got = results(scores, tiny)
    tiles = [task for task in got.tasks if task.dataset == "photo_tiles"]
    assert [got.summary("pixels", task).n for task in tiles] == [0] * 4
    assert (list(got.rows), got.compared, got.below_controls()) == (["pixels", "random", "byol", "rsa"], ["rsa"], [])


def test_a_scores_object_says_settings_and_file_of_each_column(scores: Path, tiny: Params):
    got: Scores = read_scores(scores, scores.parent / "runs", tiny)
    assert got.settings[got.of_columns("settings")[KNN]] == {"classifier": "knn", "k": [5], "temperature": 0.07}
    assert got.of_columns("file")[KNN].endswith("/probe.json")
