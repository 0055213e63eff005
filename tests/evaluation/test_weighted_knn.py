import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks

from rsa.evaluation import weighted_knn
from rsa.evaluation.weighted_knn import WeightedKNN
from tests.evaluation.blobs import blobs


@parametrize_with_checks([WeightedKNN(n_neighbors=5)])
def test_keeps_scikit_learns_contract(estimator, check):
    check(estimator)


@pytest.fixture(params=["one tile", "many tiles"])
def tiles(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "many tiles":
        monkeypatch.setattr(weighted_knn, "TILE_BYTES", 400)


def plain(k: int, temperature: float) -> KNeighborsClassifier:
    return KNeighborsClassifier(
        k, metric="cosine", algorithm="brute", weights=lambda distances: np.exp((1 - distances) / temperature)
    )


@pytest.mark.usefixtures("tiles")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (7, 0.07), (20, 1.0), (90, 0.5)])
def test_equals_scikit_learns_classifier(k: int, temperature: float, dtype: type):
    train, test = blobs(90, 0), blobs(70, 1)
    labels = np.array(["a", "b", "c"])[train.y]
    want = plain(k, temperature).fit(train.x.astype(dtype), labels)
    got = WeightedKNN(k, temperature).fit(train.x.astype(dtype), labels)
    x = test.x.astype(dtype)
    np.testing.assert_array_equal(got.predict(x), want.predict(x))
    np.testing.assert_allclose(got.predict_proba(x), want.predict_proba(x), rtol=1e-4, atol=1e-6)
    distances, indices = want.kneighbors(x)
    cosines, places = got.kneighbors(x)
    np.testing.assert_allclose(cosines, 1 - distances, atol=1e-6)
    np.testing.assert_array_equal(places, indices)


@pytest.mark.usefixtures("tiles")
def test_each_k_of_one_search_is_a_search_of_its_own():
    train, test = blobs(90, 0), blobs(70, 1)
    together = WeightedKNN(60, 0.5).fit(train.x, train.y).predict_each(test.x, [60, 1, 20, 5])
    assert sorted(together) == [1, 5, 20, 60]
    for k, predicted in together.items():
        np.testing.assert_array_equal(predicted, plain(k, 0.5).fit(train.x, train.y).predict(test.x))
    assert len({predicted.tobytes() for predicted in together.values()}) > 1


@pytest.mark.usefixtures("tiles")
@pytest.mark.parametrize("k", [1, 2, 5, 9, 10, 11])
def test_of_equal_cosines_the_earlier_training_sample_is_nearer(k: int):
    angles = np.array([0, 1, 1, 0, 1, 0, 0, 1, 2, 0])  # three directions, as exact numbers
    x = np.eye(3)[angles]
    cosines, indices = WeightedKNN(k).fit(x, angles).kneighbors(np.eye(3) * [[2], [3], [4]])
    for query in range(3):
        want = sorted(range(10), key=lambda i: (angles[i] != query, i))[:k]
        assert indices[query].tolist() == want
        assert cosines[query].tolist() == [float(angles[i] == query) for i in want]


def test_of_equal_votes_the_smaller_class_wins():
    x = np.eye(2)[[0, 0, 0, 0]]
    assert WeightedKNN(4).fit(x, [3, 1, 1, 3]).predict(x[:1]).tolist() == [1]


def test_zero_vectors_are_at_right_angles_to_everything():
    train = np.array([[0, 0], [1, 0], [-1, 0]], np.float32)
    got = WeightedKNN(3).fit(train, [0, 1, 2])
    cosines, indices = got.kneighbors(np.array([[2, 0], [0, 0]], np.float32))
    assert (cosines.tolist(), indices.tolist()) == ([[1, 0, -1], [0, 0, 0]], [[1, 0, 2], [0, 1, 2]])
    np.testing.assert_allclose(got.predict_proba([[0, 0]]), np.full((1, 3), 1 / 3))


def test_fewer_training_samples_than_neighbours_all_vote():
    train, test = blobs(12, 0), blobs(30, 1)
    few, many = (WeightedKNN(k, 0.07).fit(train.x, train.y) for k in (12, 200))
    np.testing.assert_array_equal(few.predict_proba(test.x), many.predict_proba(test.x))
    assert many.predict_each(test.x, [10, 200]).keys() == {10, 200}


def test_a_tiny_temperature_is_the_nearest_neighbour_without_overflow():
    train, test = blobs(60, 0), blobs(40, 1)
    got = WeightedKNN(20, 1e-9).fit(train.x, train.y).predict(test.x)
    np.testing.assert_array_equal(got, WeightedKNN(1).fit(train.x, train.y).predict(test.x))


def test_memory_mapped_features_are_neither_copied_nor_searched_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(weighted_knn, "TILE_BYTES", 2**19)
    train = blobs(20_000, 0, dimension=128)  # 10 MB; its cosines with the queries: 160 MB
    np.save(tmp_path / "train.npy", train.x)
    x = np.load(tmp_path / "train.npy", mmap_mode="r")
    classifier = WeightedKNN(5).fit(x, train.y)
    tracemalloc.start()
    predicted = classifier.predict(x[:2000])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * 2**20
    np.testing.assert_array_equal(predicted, WeightedKNN(5).fit(train.x, train.y).predict(train.x[:2000]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"n_neighbors": 0}, "n_neighbors must be at least 1, got 0"), ({"temperature": 0.0}, "temperature must be positive")],
)
def test_settings_out_of_range_are_refused(arguments: dict, message: str):
    with pytest.raises(ValueError, match=message):
        WeightedKNN(**arguments).fit(np.eye(2), [0, 1])


@pytest.mark.parametrize("ks", [[], [0, 5], [5, 11]])
def test_only_ks_within_the_search_are_answered(ks: list[int]):
    with pytest.raises(ValueError, match=r"ks must be between 1 and n_neighbors \(10\)"):
        WeightedKNN(10).fit(np.eye(3), [0, 1, 2]).predict_each(np.eye(3), ks)
