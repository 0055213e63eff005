import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from rsa.evaluation.score import accuracy, mean_per_class, top1


def test_top1_and_mean_per_class_by_hand():
    truth, predicted = np.array([0, 0, 0, 1]), np.array([0, 0, 2, 0])
    assert top1(truth, predicted) == 50.0
    assert mean_per_class(truth, predicted) == pytest.approx(100 / 3)  # 2/3 of class 0, none of class 1


def test_mean_per_class_is_balanced_accuracy():
    random = np.random.default_rng(0)
    truth = random.choice(5, 300, p=[0.6, 0.2, 0.1, 0.05, 0.05])
    predicted = np.where(random.random(300) < 0.6, truth, random.integers(0, 5, 300))
    assert mean_per_class(truth, predicted) == pytest.approx(100 * balanced_accuracy_score(truth, predicted))


def test_a_score_carries_its_protocol():
    score = accuracy("knn", {"k": [5]}, np.array([0, 1]), np.array([0, 1]), k=5)
    mean = {"mean_per_class": 100.0, "mean_per_class_step": 50.0}
    assert score == {
        "metric": "top1", "value": 100.0, "step": 50.0, **mean, "k": 5, "protocol": "knn", "settings": {"k": [5]}
    }  # fmt: skip


def test_a_step_is_what_one_image_more_adds():
    truth = np.array([0, 0, 0, 1, 1])
    wrong, right = np.array([0, 0, 0, 1, 0]), truth
    steps = accuracy("knn", {}, truth, right)
    assert top1(truth, right) - top1(truth, wrong) == pytest.approx(steps["step"])
    assert mean_per_class(truth, right) - mean_per_class(truth, wrong) == pytest.approx(steps["mean_per_class_step"])
