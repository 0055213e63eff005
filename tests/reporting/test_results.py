"""Methods are compared by their scores, and sentences say what is shown."""

import math
from pathlib import Path

import pytest

from rsa.params.document import Params
from rsa.reporting.results import Results
from rsa.reporting.scores import Column, read_scores
from tests.reporting.experiment import TOP1, edit_score

LINEAR = Column("digits", "sklearn", "sklearn", "top1")


def results(scores: Path, p: Params, confidence: float = 0.95) -> Results:
    p = p.model_copy(update={"report": p.report.model_copy(update={"confidence": confidence})})
    return Results(read_scores(scores, scores.parent / "runs", p).table, p)


def with_experiment(p: Params, **changes: object) -> Params:
    return p.model_copy(update={"experiment": p.experiment.model_copy(update=changes)})


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


def test_best_on_test_is_a_column_of_its_own_with_the_optimism(scores: Path, tiny: Params):
    for seed, best in ((0, 83.0), (1, 84.1)):  # ours: 82.0, 83.1
        edit_score(scores / f"rsa/s{seed}/probe.json", "sklearn", best_on_test=best)
    got = results(scores, tiny)
    best, gap = got.optimism("rsa", LINEAR)
    assert (best.mean, best.n, gap) == pytest.approx((83.55, 2, 1.0))
    assert got.summary("rsa", LINEAR).mean == pytest.approx(82.55)  # unchanged
    assert got.optimism("byol", LINEAR) is None


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
