"""Differences of two versions of an experiment: shared seeds, protocols of other names, params."""

import pandas as pd
import pytest

from rsa.reporting.comparison import Side, compare, edited, flat


def side(name: str, values: dict[int, float], settings: str = "x") -> Side:
    rows = [("rsa", seed, "digits", "knn", "knn", "top1", value, 0.0, None, settings, "file") for seed, value in values.items()]
    columns = ["method", "seed", "dataset", "task", "protocol", "metric", "value", "step", "best_on_test", "settings", "file"]
    return Side(name, None, {}, pd.DataFrame(rows, columns=columns))


def test_one_shared_seed_shows_nothing() -> None:
    found = compare(side("a", {0: 80.0, 1: 70.0}), side("b", {0: 90.0, 5: 1.0}), 0.95)
    assert [(row.difference.mean, row.difference.n) for row in found.rows] == [(10.0, 1)]
    assert found.only == [("rsa, digits knn, seeds 1", "a"), ("rsa, digits knn, seeds 5", "b")]


def test_a_protocol_of_another_name_is_another_column() -> None:
    other = side("b", {0: 90.0, 1: 91.0})
    other.scores["protocol"] = "knn-dino"
    found = compare(side("a", {0: 80.0, 1: 70.0}), other, 0.95)
    assert found.rows == []
    assert found.only == [("rsa, digits knn under knn, seeds 0, 1", "a"), ("rsa, digits knn under knn-dino, seeds 0, 1", "b")]


def test_params_are_compared_by_dotted_names() -> None:
    assert flat({"a": {"b": [1, 2], "c": {}}, "d": None}) == {"a.b": [1, 2], "a.c": {}, "d": None}


def test_equal_scores_of_the_shared_seeds_are_no_comparison() -> None:
    found = compare(side("a", {0: 80.0, 1: 70.0}), side("b", {0: 80.0}), 0.95)
    assert (found.rows, found.equal, found.only) == ([], ["rsa, digits knn"], [("rsa, digits knn, seeds 1", "a")])


def test_a_difference_of_one_step_in_each_seed_is_no_evidence() -> None:
    """Steps of 1: the differences 1, 1, 2 would be p = 0.057 without the variance of rounding."""
    a, b = side("a", {0: 80.0, 1: 70.0, 2: 75.0}), side("b", {0: 81.0, 1: 71.0, 2: 77.0})
    p = compare(a, b, 0.95).rows[0].p
    for each in (a, b):
        each.scores["step"] = 1.0
    assert compare(a, b, 0.95).rows[0].p > p


IMAGES = {
    "datasets.digits.test_fraction": 0.2,
    "datasets.digits.train_samples": 9,
    "evaluation.crop": 32,
    "evaluation.batch_size": 8,
}


@pytest.mark.parametrize(
    ("key", "refused"),
    [
        ("datasets.digits.test_fraction", True),
        ("datasets.digits.train_samples", False),
        ("datasets.other.test_fraction", False),
        ("evaluation.crop", True),
        ("evaluation.batch_size", False),
        ("shards.seed", True),
        ("shards.resize.short_side", True),
        ("shards.bytes_per_shard", False),
    ],
)
def test_scores_on_other_images_or_crops_are_refused(key: str, refused: bool) -> None:
    a, b = (side(name, {0: value, 1: value + 1})._replace(params=IMAGES) for name, value in (("a", 80.0), ("b", 90.0)))
    found = compare(a, b._replace(params={**IMAGES, key: 16}), 0.95)
    assert len(found.rows) == (not refused)
    assert [key in sentence for sentence in found.refused] == [True] * refused


@pytest.mark.parametrize(
    ("ran", "params", "keys"),
    [
        ({"a": {"b": 1}}, {"a": {"b": 1.0, "c": 2}}, ()),  # another method's section is not in a report's params
        ({"a": {"b": 1}}, {"a": {"b": 2}}, ("a.b",)),
        ({"a": None}, {"a": {"b": 1}}, ("a",)),
        ({"a": {"b": 1}}, {"a": None}, ("a.b",)),
        ({"a": {"b": None}}, {"a": {"c": 1}}, ()),  # a default
        ({"linear": {"protocols": {}}}, {"linear": {"protocols": {"mine": 1}}}, ()),  # one that is not used
    ],
)
def test_edited_params_are_those_that_the_report_has_otherwise(ran: object, params: object, keys: tuple[str, ...]) -> None:
    assert edited(flat(params), flat(ran)) == keys
