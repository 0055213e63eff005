import numpy as np
import pytest

from rsa.data.splits import held_out
from rsa.evaluation.features import Features
from rsa.evaluation.few_shot import few_shot
from rsa.evaluation.knn import knn_probe
from rsa.evaluation.linear import linear_probe
from rsa.evaluation.tasks import probe_tasks, transfer_tasks
from rsa.params.document import Params
from rsa.params.probe import KNN, Transfer
from tests.evaluation.blobs import blobs


def test_probe_is_every_protocol(tiny: Params):
    train, test = blobs(60, 0), blobs(40, 1)
    knn, sklearn = tiny.probe.protocols["knn"], tiny.probe.protocols["sklearn"]
    assert probe_tasks(train, test, tiny.probe, tiny.runtime, seed=1) == {
        "knn": knn_probe("knn", knn, tiny.probe, train, test, seed=1),
        "sklearn": linear_probe("sklearn", sklearn, tiny.probe, train, test, seed=1),
    }


def test_transfer_is_every_protocol_and_few_shot_for_every_number_of_labels(tiny: Params):
    train, test = blobs(60, 0), blobs(40, 1)
    scores = transfer_tasks(train, test, tiny.probe, Transfer(labels_per_class=[1, 5], draws=3), tiny.runtime, seed=1)
    shots = {"1_shot": few_shot(train, test, 1, 3, 1), "5_shot": few_shot(train, test, 5, 3, 1)}
    assert scores == probe_tasks(train, test, tiny.probe, tiny.runtime, seed=1) | shots


def test_every_score_is_stamped_with_its_protocol_and_settings(tiny: Params):
    scores = transfer_tasks(blobs(60, 0), blobs(40, 1), tiny.probe, tiny.transfer, tiny.runtime, seed=1)
    for task, score in scores.items():
        assert score["metric"] == "top1"
        assert score["protocol"] == (task if task in tiny.probe.protocols else "few-shot")
        if task in tiny.probe.protocols:
            assert score["settings"] == tiny.probe.protocols[task].model_dump(mode="json")


def test_what_has_nothing_to_learn_from_scores_at_chance(tiny: Params):
    """Features without any signal: 3 classes, 600 test images; 33.3 % +- 4 standard errors."""
    train, test = blobs(150, 0, spread=1e6), blobs(600, 1, spread=1e6)
    for score in transfer_tasks(train, test, tiny.probe, tiny.transfer, tiny.runtime, 0).values():
        assert score["value"] == pytest.approx(100 / 3, abs=8)
        assert score["mean_per_class"] == pytest.approx(100 / 3, abs=8)


def test_a_class_with_one_image_or_none_fails_no_task_and_is_not_held_out(tiny: Params):
    train, test = blobs(90, 0, classes=5), blobs(50, 1, classes=5)
    kept = np.concatenate([np.flatnonzero(~np.isin(train.y, (1, 3))), np.flatnonzero(train.y == 1)[:1]])
    train = Features(train.x[kept], train.y[kept])
    knn = KNN(classifier="knn", k=[1, 5], temperature=0.07)
    probe = tiny.probe.model_copy(update={"protocols": {**tiny.probe.protocols, "knn": knn}})
    scores = transfer_tasks(train, test, probe, tiny.transfer, tiny.runtime, 0)
    assert scores.keys() == {"knn", "sklearn", "1_shot", "2_shot"}
    kept, out = held_out(train.y, [str(n) for n in range(5)], 0.2, 0, "kept")
    assert np.bincount(train.y[out], minlength=5).tolist() == [4, 0, 4, 0, 4]
    assert sorted([*kept, *out]) == list(range(len(train.y)))
    labelled = held_out(train.y, [str(n) for n in range(5)], 0.2, 0, "held out")[1]
    assert np.bincount(train.y[labelled], minlength=5).tolist() == [4, 1, 4, 0, 4]
    singles = Features(train.x[[0, 1, 2]], np.array([0, 2, 4]))
    with pytest.raises(ValueError, match=r"a class must have at least 2 training images, .* got 1 of each of '0', '2', '4': add"):
        probe_tasks(singles, test, probe, tiny.runtime, 0)
