from pathlib import Path

import pytest

from rsa.params import Params
from rsa.reporting.results import Results, read_scores
from tests.reporting.experiment import KNN_LESS, TOP1, TRANSFER_LESS, write_scores

LINEAR = ("digits", "sklearn")


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    return write_scores(tmp_path / "scores")


def results(scores: Path, p: Params, confidence: float = 0.95) -> Results:
    return Results(read_scores(scores, p), p.experiment, confidence)


def test_table_has_a_row_for_every_method_floor_seed_and_task(scores: Path, tiny: Params):
    table = read_scores(scores, tiny)
    assert list(table.columns) == ["method", "seed", "dataset", "task", "protocol", "metric", "value", "best_on_test"]
    assert len(table) == 4 * 2 * 6
    top1 = {(row.method, row.seed, row.dataset, row.task): row.value for row in table.itertuples()}
    assert len(top1) == len(table)
    for (method, seed), score in TOP1.items():
        assert top1[method, seed, "digits", "sklearn"] == score
        assert top1[method, seed, "digits", "knn"] == score - KNN_LESS
        assert top1[method, seed, "photo_tiles", "sklearn"] == score - TRANSFER_LESS
        assert top1[method, seed, "photo_tiles", "2_shot"] == 40.0


@pytest.mark.parametrize("missing", ["rsa/s1/probe.json", "pixels/s0/transfer_photo_tiles.json", "byol/s0/probe.json"])
def test_missing_score_is_named(scores: Path, tiny: Params, missing: str):
    (scores / missing).unlink()
    with pytest.raises(ValueError, match="does not exist: run its stage first") as error:
        read_scores(scores, tiny)
    assert str(error.value).startswith(str(scores / missing))


def test_scores_outside_the_experiment_are_ignored(scores: Path, tiny: Params):
    (scores / "simclr/s0").mkdir(parents=True)
    (scores / "rsa/s9").mkdir()
    assert set(read_scores(scores, tiny)["seed"]) == {0, 1}


def test_cells_by_hand(scores: Path, tiny: Params):
    got = results(scores, tiny)
    assert list(got.rows) == ["pixels", "random", "byol", "rsa"]
    assert set(got.tasks) == {
        ("digits", "knn"),
        LINEAR,
        ("photo_tiles", "knn"),
        ("photo_tiles", "sklearn"),
        ("photo_tiles", "1_shot"),
        ("photo_tiles", "2_shot"),
    }
    summary = got.summary("byol", LINEAR)
    assert (summary.mean, summary.sd, summary.n) == pytest.approx((80.5, 0.7071068, 2))
    difference = got.difference("rsa", LINEAR)
    # differences 2.0 and 2.1: mean 2.05, sd 0.0707, t(0.975, 1) = 12.7062, half-width 0.6353
    assert (difference.mean, difference.low, difference.high) == pytest.approx((2.05, 1.41469, 2.68531), abs=1e-4)


def test_the_baseline_stands_before_the_other_methods(scores: Path, tiny: Params):
    e = tiny.experiment.model_copy(update={"baseline": "rsa"})
    got = Results(read_scores(scores, tiny.model_copy(update={"experiment": e})), e, 0.95)
    assert list(got.rows) == ["pixels", "random", "rsa", "byol"]
    assert got.difference("byol", LINEAR).mean == pytest.approx(-2.05)


def test_sentences_say_what_is_shown(scores: Path, tiny: Params):
    better = "digits, sklearn: rsa is better than byol by +2.0 points [+1.4, +2.7], 2 seeds."
    assert results(scores, tiny).sentence("rsa", LINEAR) == better
    unsure = results(scores, tiny, confidence=0.999).sentence("rsa", LINEAR)  # half-width 31.8
    assert unsure == "digits, sklearn: no difference between rsa and byol shown (+2.0 points [-29.8, +33.9], 2 seeds)."
    e = tiny.experiment.model_copy(update={"baseline": "rsa"})
    worse = Results(read_scores(scores, tiny.model_copy(update={"experiment": e})), e, 0.95).sentence("byol", LINEAR)
    assert worse == "digits, sklearn: byol is worse than rsa by -2.0 points [-2.7, -1.4], 2 seeds."


def test_one_seed_cannot_tell(scores: Path, tiny: Params):
    e = tiny.experiment.model_copy(update={"seeds": [1]})
    got = Results(read_scores(scores, tiny.model_copy(update={"experiment": e})), e, 0.95)
    assert got.sentence("rsa", LINEAR) == "digits, sklearn: one seed cannot tell rsa from byol."
