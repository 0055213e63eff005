import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import check_grad
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from rsa.evaluation import softmax_regression
from rsa.evaluation.softmax_regression import SoftmaxRegression
from tests.evaluation.blobs import blobs

EXACT = {"tol": 1e-9, "max_iter": 2000}


@pytest.fixture(params=["one chunk", "many chunks"])
def chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "many chunks":
        monkeypatch.setattr(softmax_regression, "CHUNK_BYTES", 200)


def plain(C: float) -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(C=C, **EXACT))


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("C", [0.001, 1.0, 100.0])
def test_coefficients_equal_scikit_learns(C: float, classes: int):
    data, test = blobs(210, 0, classes, 9), blobs(50, 1, classes, 9)
    x = data.x.astype(np.float64)
    labels = np.arange(10, 10 + classes)[data.y]
    want = plain(C).fit(x, labels)
    got = SoftmaxRegression(C, **EXACT).fit(x, labels)
    np.testing.assert_allclose(got._parameters[:, :-1], want[1].coef_, atol=1e-6)
    np.testing.assert_allclose(got._parameters[:, -1], want[1].intercept_, atol=1e-6)
    np.testing.assert_array_equal(got.predict(test.x.astype(np.float64)), want.predict(test.x))


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_features_of_any_unit_and_a_constant_one(dtype: type):
    data, test = blobs(210, 0), blobs(50, 1)
    units, shift = np.array([1e-2, 1, 1e3, 50]), np.array([5, -3, 0, 100])
    x, x_test = (np.column_stack([split.x * units + shift, np.full(len(split.x), 7)]).astype(dtype) for split in (data, test))
    want = plain(0.1).fit(x.astype(np.float64), data.y)
    tight = EXACT if dtype == np.float64 else {"tol": 1e-5, "max_iter": 2000}  # float32 cannot see gradients of 1e-9
    got = SoftmaxRegression(0.1, **tight).fit(x, data.y)
    np.testing.assert_allclose(got._parameters[:, :-1], want[1].coef_, atol=1e-6 if dtype == np.float64 else 1e-3)
    np.testing.assert_array_equal(got.predict(x_test), want.predict(x_test))


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("classes", [2, 4])
def test_gradient_is_the_slope_of_the_loss(classes: int):
    data = blobs(40, 0, classes)
    x, random = data.x.astype(np.float64), np.random.default_rng(0)
    model = SoftmaxRegression(0.3, max_iter=1000).fit(x, data.y)
    shape = model._parameters.shape

    def both(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        return model._loss_and_gradient(parameters.reshape(shape), x, data.y)

    at = random.normal(size=shape).ravel()
    assert check_grad(lambda p: both(p)[0], lambda p: both(p)[1], at) < 1e-6


def test_stopping_early_is_said():
    data = blobs(90, 0)
    with pytest.warns(ConvergenceWarning, match="not converged after 2 iterations"):
        SoftmaxRegression(100.0, max_iter=2).fit(data.x, data.y)
    SoftmaxRegression(1.0, max_iter=100).fit(data.x, data.y)  # no warning


def test_memory_mapped_features_are_not_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(softmax_regression, "CHUNK_BYTES", 2**18)
    data = blobs(40_000, 0, dimension=128)  # 20 MB
    np.save(tmp_path / "x.npy", data.x)
    x = np.load(tmp_path / "x.npy", mmap_mode="r")
    model = SoftmaxRegression(0.01, max_iter=100)
    tracemalloc.start()
    predicted = model.fit(x, data.y).predict(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * 2**20
    np.testing.assert_array_equal(predicted, SoftmaxRegression(0.01, max_iter=100).fit(data.x, data.y).predict(data.x))


def test_one_class_is_refused():
    with pytest.raises(ValueError, match="y must have at least 2 classes, got one class"):
        SoftmaxRegression(1.0, max_iter=100).fit(np.eye(2), np.array([1, 1]))
