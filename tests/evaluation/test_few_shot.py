import statistics

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from rsa.evaluation import few_shot as few_shot_module
from rsa.evaluation.features import Features
from rsa.evaluation.few_shot import few_shot
from tests.evaluation.blobs import blobs


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[np.ndarray, np.ndarray]]:
    """What every logistic regression was fitted on."""
    seen: list[tuple[np.ndarray, np.ndarray]] = []
    fit = LogisticRegression.fit

    def spy(self, x, y, *rest):
        seen.append((x, y))
        return fit(self, x, y, *rest)

    monkeypatch.setattr(LogisticRegression, "fit", spy)
    return seen


@pytest.mark.parametrize("k", [1, 3, 10])
def test_every_draw_fits_exactly_k_different_images_of_each_class(fitted: list, k: int):
    train, test = blobs(60, 0, classes=4), blobs(40, 1, classes=4)
    few_shot(train, test, k, draws=3, seed=0)
    scaled = StandardScaler().fit_transform(train.x)
    assert len(fitted) == 3
    for x, y in fitted:
        assert np.bincount(y).tolist() == [k] * 4
        assert len(np.unique(x, axis=0)) == 4 * k
        for row, label in zip(x, y, strict=True):  # each is a training image with its own label
            assert train.y[np.isclose(scaled, row).all(1)].tolist() == [label]


def test_draws_differ_and_are_a_function_of_the_seed(fitted: list):
    train, test = blobs(60, 0), blobs(40, 1)
    first, again, other = (few_shot(train, test, 2, draws=3, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    chosen = [np.sort(x.sum(1)).round(4).tobytes() for x, _ in fitted]
    assert chosen[:3] == chosen[3:6]
    assert len(set(chosen)) == 6  # three of seed 0, three of seed 1


def test_mean_and_sd_are_those_of_the_draws():
    result = few_shot(blobs(60, 0), blobs(40, 1), 2, draws=4, seed=0)
    assert len(result["draws"]) == 4
    assert result["value"] == pytest.approx(statistics.mean(result["draws"]))
    assert result["sd"] == pytest.approx(statistics.stdev(result["draws"]))


@pytest.mark.parametrize(("max_iter", "converged"), [(few_shot_module.MAX_ITER, True), (1, False)])
def test_a_regression_that_has_not_converged_is_told(max_iter: int, converged: bool, monkeypatch: pytest.MonkeyPatch):
    """The report names its score: tests/reporting/test_results.py."""
    monkeypatch.setattr(few_shot_module, "MAX_ITER", max_iter)
    assert few_shot(blobs(60, 0), blobs(40, 1), 2, draws=2, seed=0)["converged"] is converged


def test_one_draw_has_no_sd():
    assert few_shot(blobs(60, 0), blobs(40, 1), 2, draws=1, seed=0)["sd"] is None


def test_a_class_with_fewer_images_gives_all_and_is_counted(fitted: list):
    train, test = blobs(60, 0, classes=4), blobs(40, 1, classes=4)
    kept = np.concatenate([np.flatnonzero(train.y != 1), np.flatnonzero(train.y == 1)[:1]])
    score = few_shot(Features(train.x[kept], train.y[kept]), test, 3, draws=1, seed=0)
    assert np.bincount(fitted[0][1]).tolist() == [3, 1, 3, 3]
    assert score["smaller_classes"] == 1
    assert "smaller_classes" not in few_shot(train, test, 3, draws=1, seed=0)


def test_labels_of_the_test_split_decide_nothing_but_the_score(fitted: list):
    train, test = blobs(60, 0), blobs(40, 1)
    few_shot(train, test, 2, draws=2, seed=0)
    few_shot(train, Features(test.x, test.y[::-1].copy()), 2, draws=2, seed=0)
    for one, other in zip(fitted[:2], fitted[2:], strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])
