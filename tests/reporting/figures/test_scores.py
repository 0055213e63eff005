from pathlib import Path

from rsa.reporting.figures.scores import draw_cost, draw_scores
from tests.reporting.figures.conftest import Texts
from tests.reporting.figures.recordings import score_table

TASKS = [("digits", "knn"), ("digits", "sklearn"), ("photo_tiles", "knn")]
CONTROLS = ["pixels", "random"]


def test_every_mean_is_written(tmp_path: Path, texts: Texts):
    scores = score_table(["byol", "rsa"], [0, 2], TASKS)
    scores.loc[(scores["method"] == "rsa") & (scores["task"] == "sklearn") & (scores["seed"] == 2), "value"] = 90.5
    draw_scores(scores, CONTROLS, ["byol", "rsa"], tmp_path / "scores.svg")
    found = texts(tmp_path / "scores.svg")
    for mean in ("51.0", "56.0", "61.0", "66.0", "77.8"):  # (65 + 90.5) / 2
        assert mean in found
    assert found.count("51.0") == len(TASKS)
    assert found.count("rsa") == found.count("pixels") == 1  # one row of panels, names on its left
    assert found.count("top-1 (%)") == len(TASKS)


def test_a_cell_without_scores_says_so(tmp_path: Path, texts: Texts):
    scores = score_table(["byol", "rsa"], [0, 1], TASKS)
    scores = scores[~((scores["method"] == "rsa") & (scores["task"] == "sklearn"))]
    draw_scores(scores, CONTROLS, ["byol", "rsa"], tmp_path / "scores.svg")
    assert texts(tmp_path / "scores.svg").count("no score") == 1


def test_a_missing_seed_is_left_out(tmp_path: Path, texts: Texts):
    scores = score_table(["byol", "rsa"], [0, 1], TASKS)
    scores = scores[~((scores["method"] == "rsa") & (scores["seed"] == 1))]
    draw_scores(scores, CONTROLS, ["byol", "rsa"], tmp_path / "scores.svg")
    assert texts(tmp_path / "scores.svg").count("65.0") == len(TASKS)


def test_another_metric_is_named(tmp_path: Path, texts: Texts):
    scores = score_table(["byol"], [0], TASKS)
    scores.loc[scores["dataset"] == "photo_tiles", "metric"] = "mean_per_class"
    draw_scores(scores, CONTROLS, ["byol"], tmp_path / "scores.svg")
    assert texts(tmp_path / "scores.svg").count("mean per class (%)") == 1


def test_cost_has_its_unit_and_the_number_of_seeds(tmp_path: Path, texts: Texts):
    scores = score_table(["byol", "rsa"], [0, 1], TASKS[:2])
    draw_cost(scores, {"byol": {0: 1.0, 1: 1.0}, "rsa": {0: 2.0}}, ["byol", "rsa"], "10¹² FLOPs", tmp_path / "cost.svg")
    found = texts(tmp_path / "cost.svg")
    assert found.count("10¹² FLOPs") == 2
    assert {"byol (2 seeds)", "rsa (1 seed)"} <= set(found)
