import numpy as np
import pandas as pd
import pytest

from rsa.evaluation import maps
from rsa.evaluation.features import Features
from rsa.evaluation.knn import knn_probe
from rsa.evaluation.maps import confusion, confusion_of_knn, points
from rsa.params.probe import KNN, LinearProbe, Probe
from tests.evaluation.blobs import blobs

LINEAR = LinearProbe(classifier="logistic_regression", C=[0.1], max_iter=100)


def probe(**protocols: KNN | LinearProbe) -> Probe:
    return Probe(held_out=0.25, best_on_test=False, protocols=protocols)


def test_principal_components_are_those_of_the_singular_value_decomposition():
    test = blobs(90, 0, dimension=6)
    got = points(test, seed=0)
    x = test.x.astype(float) / np.linalg.norm(test.x.astype(float), axis=1, keepdims=True)
    u, s, _ = np.linalg.svd(x - x.mean(0), full_matrices=False)
    for place, name in enumerate(("pca_x", "pca_y")):
        want = u[:, place] * s[place]
        assert min(abs(got[name] - want).max(), abs(got[name] + want).max()) < 1e-6  # up to its sign
    assert got["label"].tolist() == test.y.tolist()
    assert got["sample"].tolist() == list(range(90))


def test_neighbours_stay_neighbours_and_the_same_seed_is_the_same_map():
    test = blobs(120, 0, spread=0.1)
    got = points(test, seed=0)
    pd.testing.assert_frame_equal(got, points(test, seed=0))
    near = got[["tsne_x", "tsne_y"]].to_numpy()
    distances = ((near[:, None] - near[None]) ** 2).sum(2) + np.diag(np.full(120, np.inf))
    assert (test.y[distances.argmin(1)] == test.y).mean() > 0.95


def test_of_many_samples_some_are_drawn_in_their_order(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(maps, "MOST", 40)
    test = blobs(90, 0)
    first, other = points(test, seed=0), points(test, seed=1)
    assert len(first) == 40
    assert first["sample"].is_monotonic_increasing
    assert first["sample"].is_unique
    assert test.y[first["sample"]].tolist() == first["label"].tolist()
    assert first["sample"].tolist() != other["sample"].tolist()


def test_confusions_by_hand():
    got = confusion(np.array([0, 0, 1, 1, 1]), np.array([0, 2, 1, 1, 0]))
    assert got.to_dict("list") == {"truth": [0, 0, 1, 1], "predicted": [0, 2, 0, 1], "count": [1, 1, 1, 2]}


def test_confusions_are_of_the_predictions_that_the_score_is_made_from():
    """Of several k the one chosen on held-out data; the first kNN protocol."""
    train, test = blobs(60, 0), blobs(90, 1)
    knn = KNN(classifier="knn", k=[1, 20], temperature=0.07)
    p = probe(sklearn=LINEAR, mine=knn, other=KNN(classifier="knn", k=[3], temperature=1.0))
    name, got = confusion_of_knn(train, test, p, 1, seed=0)
    score = knn_probe("mine", knn, p, train, test, seed=0)
    right = got.query("truth == predicted")["count"].sum()
    assert name == "mine"
    assert got["count"].sum() == 90
    assert 100 * right / 90 == pytest.approx(score["value"])
    assert right < 90


def test_without_knn_there_are_no_confusions():
    empty = Features(np.zeros((3, 2), np.float32), np.arange(3))
    name, got = confusion_of_knn(empty, empty, probe(sklearn=LINEAR), 1, seed=0)
    assert name is None
    assert list(got) == ["truth", "predicted", "count"]
    assert len(got) == 0
