import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from rsa.evaluation import weighted_knn as module
from rsa.evaluation.weighted_knn import neighbors, votes, weighted_knn
from tests.evaluation.blobs import blobs


@pytest.fixture(params=["one tile", "many tiles"])
def tiles(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "many tiles":
        monkeypatch.setattr(module, "TILE_BYTES", 400)


def plain(k: int, temperature: float) -> KNeighborsClassifier:
    return KNeighborsClassifier(
        k, metric="cosine", algorithm="brute", weights=lambda distances: np.exp((1 - distances) / temperature)
    )


def all_neighbors(x: np.ndarray, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    blocks = list(neighbors(x, queries, k))
    return np.concatenate([cosines for cosines, _ in blocks]), np.concatenate([indices for _, indices in blocks])


@pytest.mark.usefixtures("tiles")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (7, 0.07), (20, 1.0), (90, 0.5)])
def test_equals_scikit_learns_classifier(k: int, temperature: float, dtype: type):
    train, test = blobs(90, 0), blobs(70, 1)
    x, queries = train.x.astype(dtype), test.x.astype(dtype)
    want = plain(k, temperature).fit(x, train.y + 5)
    np.testing.assert_array_equal(weighted_knn(x, train.y + 5, queries, [k], temperature)[k], want.predict(queries))
    distances, indices = want.kneighbors(queries)
    cosines, places = all_neighbors(x, queries, k)
    np.testing.assert_allclose(cosines, 1 - distances, atol=1e-6)
    np.testing.assert_array_equal(places, indices)
    (shares,) = votes(cosines, train.y[places], 3, [k], temperature)
    np.testing.assert_allclose(shares / shares.sum(1, keepdims=True), want.predict_proba(queries), rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("tiles")
def test_each_k_of_one_search_is_a_search_of_its_own():
    train, test = blobs(90, 0), blobs(70, 1)
    together = weighted_knn(train.x, train.y, test.x, [60, 1, 20, 5], 0.5)
    assert sorted(together) == [1, 5, 20, 60]
    for k, predicted in together.items():
        np.testing.assert_array_equal(predicted, plain(k, 0.5).fit(train.x, train.y).predict(test.x))
    assert len({predicted.tobytes() for predicted in together.values()}) > 1


@pytest.mark.usefixtures("tiles")
@pytest.mark.parametrize("k", [1, 2, 5, 9, 10, 11])
def test_of_equal_cosines_the_earlier_training_sample_is_nearer(k: int):
    angles = np.array([0, 1, 1, 0, 1, 0, 0, 1, 2, 0])  # three directions, as exact numbers
    cosines, indices = all_neighbors(np.eye(3)[angles], np.eye(3) * [[2], [3], [4]], k)
    for query in range(3):
        want = sorted(range(10), key=lambda i: (angles[i] != query, i))[:k]
        assert indices[query].tolist() == want
        assert cosines[query].tolist() == [float(angles[i] == query) for i in want]


def test_of_equal_votes_the_smaller_class_wins():
    x = np.eye(2)[[0, 0, 0, 0]]
    assert weighted_knn(x, np.array([3, 1, 1, 3]), x[:1], [4], 0.1)[4].tolist() == [1]


@pytest.mark.usefixtures("tiles")
@pytest.mark.parametrize("exponent", [-100, -70, -40, 40, 66, 120])  # 2**66 is 7e19: its square is no float32
def test_no_length_of_the_features_changes_a_neighbour(exponent: int):
    train, test = blobs(90, 0), blobs(70, 1)
    want = all_neighbors(train.x, test.x, 20)
    rows = np.arange(90)[:, None] % 2 == 0  # beside others of usual length
    got = all_neighbors(np.where(rows, np.ldexp(train.x, exponent), train.x), np.ldexp(test.x, exponent), 20)
    np.testing.assert_array_equal(got[1], want[1])
    np.testing.assert_array_equal(got[0], want[0])


def test_zero_vectors_are_at_right_angles_to_everything():
    train = np.array([[0, 0], [1, 0], [-1, 0]], np.float32)
    cosines, indices = all_neighbors(train, np.array([[2, 0], [0, 0]], np.float32), 3)
    assert (cosines.tolist(), indices.tolist()) == ([[1, 0, -1], [0, 0, 0]], [[1, 0, 2], [0, 1, 2]])


def test_fewer_training_samples_than_neighbours_all_vote():
    train, test = blobs(12, 0), blobs(30, 1)
    found = weighted_knn(train.x, train.y, test.x, [12, 200], 0.07)
    np.testing.assert_array_equal(found[12], found[200])


def test_a_tiny_temperature_is_the_nearest_neighbour_without_overflow():
    train, test = blobs(60, 0), blobs(40, 1)
    found = weighted_knn(train.x, train.y, test.x, [1, 20], 1e-9)
    np.testing.assert_array_equal(found[20], found[1])


def test_memory_mapped_features_are_neither_copied_nor_searched_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "TILE_BYTES", 2**19)
    train = blobs(20_000, 0, dimension=128)  # 10 MB; its cosines with the queries: 160 MB
    np.save(tmp_path / "train.npy", train.x)
    x = np.load(tmp_path / "train.npy", mmap_mode="r")
    tracemalloc.start()
    predicted = weighted_knn(x, train.y, x[:2000], [5], 0.1)[5]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * 2**20
    np.testing.assert_array_equal(predicted, weighted_knn(train.x, train.y, train.x[:2000], [5], 0.1)[5])
