import pytest

from rsa.evaluation.few_shot import few_shot
from rsa.evaluation.knn import knn_top1
from rsa.evaluation.linear import linear_probe
from rsa.evaluation.tasks import probe_tasks, transfer_tasks
from rsa.params import Params, Transfer
from tests.evaluation.blobs import blobs


def test_probe_is_knn_and_linear(tiny: Params):
    train, test = blobs(60, 0), blobs(40, 1)
    assert probe_tasks(train, test, tiny.probe, seed=1) == {
        "knn": {"top1": knn_top1(train, test, tiny.probe.knn)},
        "linear": linear_probe(train, test, tiny.probe.linear, seed=1),
    }


def test_transfer_is_linear_and_few_shot_for_every_number_of_labels(tiny: Params):
    train, test = blobs(60, 0), blobs(40, 1)
    scores = transfer_tasks(train, test, tiny.probe, Transfer(labels_per_class=[1, 5], draws=3), seed=1)
    assert scores == {
        "linear": linear_probe(train, test, tiny.probe.linear, seed=1),
        "1_shot": few_shot(train, test, 1, 3, 1),
        "5_shot": few_shot(train, test, 5, 3, 1),
    }


def test_what_has_nothing_to_learn_from_scores_at_chance(tiny: Params):
    """Features without any signal: 3 classes, 600 test images; 33.3 % +- 4 standard errors."""
    train, test = blobs(150, 0, spread=1e6), blobs(600, 1, spread=1e6)
    scores = {**probe_tasks(train, test, tiny.probe, 0), **transfer_tasks(train, test, tiny.probe, tiny.transfer, 0)}
    for score in scores.values():
        assert score["top1"] == pytest.approx(100 / 3, abs=8)
