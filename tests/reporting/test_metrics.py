"""The numbers that DVC compares are the report's."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from rsa.params.document import Params
from rsa.reporting.metrics import metrics
from rsa.reporting.results import Results
from rsa.reporting.scores import read_scores
from tests.reporting.experiment import write_scores


@pytest.fixture
def table(tmp_path: Path, tiny: Params) -> pd.DataFrame:
    return read_scores(write_scores(tmp_path / "scores"), tmp_path / "runs", tiny).table


def test_means_and_differences_with_their_intervals(table: pd.DataFrame, tiny: Params):
    table["step"] = 0.0  # rounding to steps widens intervals: see test_statistics
    shown = metrics(Results(table, tiny))
    assert list(shown) == ["rsa-byol", "mean", "interval"]
    columns = 0
    for (dataset, task), rows in table.groupby(["dataset", "task"]):
        columns += 1
        by_method = {str(method): scores.sort_values("seed")["value"].to_numpy() for method, scores in rows.groupby("method")}
        for method, values in by_method.items():
            assert shown["mean"][f"{method} {dataset} {task}"] == pytest.approx(values.mean(), abs=0.005)
        d = by_method["rsa"] - by_method["byol"]
        assert shown["rsa-byol"][f"{dataset} {task}"] == pytest.approx(d.mean(), abs=0.005)
        if np.ptp(d) > 0:
            ends = stats.t.interval(0.95, len(d) - 1, d.mean(), stats.sem(d))
            got = [shown["interval"][f"rsa-byol {dataset} {task} {end}"] for end in ("low", "high")]
            assert got == pytest.approx(ends, abs=0.005)
    assert (len(shown["rsa-byol"]), len(shown["mean"])) == (columns, 4 * columns)


def test_what_is_not_defined_is_left_out(table: pd.DataFrame, tiny: Params):
    one = table[(table["seed"] == 0) & ~((table["method"] == "rsa") & (table["task"] == "knn"))]
    shown = metrics(Results(one, tiny))
    assert shown["interval"] == {}
    assert "digits sklearn" in shown["rsa-byol"]
    assert "digits knn" not in shown["rsa-byol"]
    assert "rsa digits knn" not in shown["mean"]
    assert "byol digits knn" in shown["mean"]
