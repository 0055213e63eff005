"""Differences of two versions of an experiment: shared seeds, protocols of other names, params."""

import pandas as pd

from rsa.reporting.comparison import Side, compare, flat


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
