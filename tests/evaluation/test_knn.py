import math

import numpy as np
import pytest

from rsa.evaluation.features import Features
from rsa.evaluation.knn import knn_probe
from rsa.evaluation.score import Score
from rsa.params.probe import KNN, Probe
from tests.evaluation.blobs import blobs


def scored(train: Features, test: Features, ks: list[int], temperature: float, best_on_test: bool = False) -> Score:
    p = KNN(classifier="knn", k=ks, temperature=temperature)
    return knn_probe("knn", p, Probe(held_out=0.25, best_on_test=best_on_test, protocols={"knn": p}), train, test, seed=0)


def knn_top1(train: Features, test: Features, k: int, temperature: float) -> float:
    return scored(train, test, [k], temperature)["value"]


def vote(train: Features, x: np.ndarray, k: int, temperature: float) -> int:
    """The class of one image, in plain loops."""
    cosines = [float(np.dot(x, t)) / (math.dist(x, [0] * len(x)) * math.dist(t, [0] * len(t))) for t in train.x.astype(float)]
    nearest = sorted(range(len(cosines)), key=lambda i: -cosines[i])[:k]
    votes: dict[int, float] = {}
    for i in nearest:
        votes[int(train.y[i])] = votes.get(int(train.y[i]), 0.0) + math.exp(cosines[i] / temperature)
    return max(votes, key=lambda label: votes[label])


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (5, 0.07), (20, 0.07), (20, 10.0), (60, 0.5)])
def test_top1_equals_plain_loops(k: int, temperature: float):
    train, test = blobs(60, 0), blobs(90, 1)
    right = sum(vote(train, x, k, temperature) == y for x, y in zip(test.x.astype(float), test.y, strict=True))
    got = knn_top1(train, test, k, temperature)
    assert got == pytest.approx(100 * right / 90)
    assert 34 < got < 96  # neither chance nor certain: the comparison says something


def test_near_neighbours_outvote_a_majority_of_far_ones():
    train = Features(np.array([[1, 0], [0.6, 0.8], [0.6, 0.8]], np.float32), np.array([0, 1, 1]))
    test = Features(np.array([[1, 0.05]], np.float32), np.array([0]))
    assert knn_top1(train, test, 3, 0.07) == 100.0
    assert knn_top1(train, test, 3, 100.0) == 0.0  # nearly equal votes


def test_neighbours_are_by_angle_not_by_length():
    train = Features(np.array([[100, 0], [0, 0.5]], np.float32), np.array([0, 1]))
    test = Features(np.array([[0.01, 0]], np.float32), np.array([0]))
    assert knn_top1(train, test, 1, 0.07) == 100.0


def test_fewer_training_images_than_k_all_vote():
    train, test = blobs(12, 0), blobs(30, 1)
    assert knn_top1(train, test, 200, 0.07) == knn_top1(train, test, 12, 0.07)


def test_of_several_k_the_best_on_held_out_data_is_taken():
    train, test = blobs(300, 0), blobs(90, 1)
    ks = [1, 5, 60]
    result = scored(train, test, ks, 0.07)
    assert set(result["held_out_top1"]) == {"1", "5", "60"}
    best = max(result["held_out_top1"].values())
    assert result["held_out_top1"][str(result["k"])] == best
    assert result["value"] == knn_top1(train, test, result["k"], 0.07)
    assert result["best_on_test"] is None
    optimistic = scored(train, test, ks, 0.07, best_on_test=True)
    assert optimistic["value"] == result["value"]
    assert optimistic["best_on_test"] == max(knn_top1(train, test, k, 0.07) for k in ks)
