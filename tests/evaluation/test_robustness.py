from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from rsa.data.evaluation_images import evaluation_images
from rsa.data.index import Split
from rsa.data.shards import write_shards
from rsa.evaluation.corruptions import corrupt
from rsa.evaluation.encode import encode_split
from rsa.evaluation.features import Features
from rsa.evaluation.robustness import fit_classifier, robustness_scores
from rsa.params.evaluation import Evaluation, Geometry
from rsa.params.robustness import Robustness
from tests.data.photos import encoded, photographs, shard_params, source_of

CPU = torch.device("cpu")
EVALUATION = Evaluation(resize=16, crop=16, interpolation="linear", batch_size=16)
ROBUSTNESS = Robustness(
    constants="tiny_imagenet",
    corruptions=["gaussian_noise", "contrast"],
    severities=[1, 5],
    C=[0.01, 0.001],
    held_out=0.25,
    max_iter=200,
)


def coarse(images: Tensor) -> NDArray[np.float32]:
    """An encoder: pixels of 4 x 4 blocks, and how much they vary."""
    blocks = images.float().div(255).unflatten(1, (4, 4)).unflatten(3, (4, 4)).permute(0, 1, 3, 2, 4, 5).flatten(3)
    return torch.cat([blocks.mean(3).flatten(1), blocks.std(3).flatten(1)], 1).numpy()


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs that are upright (class 0) or upside down (1)."""
    folder = tmp_path_factory.mktemp("shards")
    images = {}
    for i, image in enumerate(photographs(200)):
        images[f"{i:03d}"] = encoded(image.rotate(180 * (i % 2)), "PNG")
    write_shards(source_of(images, test=40), shard_params(), {"dataset": "photographs"}, folder / "out", folder / "work")
    return folder / "out"


def features(shards: Path, name: str) -> Features:
    split = Split(shards, name)
    return Features(np.concatenate(list(encode_split(coarse, split, EVALUATION, 1, CPU))), split.labels)


def test_scores_are_those_of_a_probe_on_corrupted_images_one_by_one(shards: Path):
    train, test = features(shards, "train"), features(shards, "test")
    split = Split(shards, "test")
    found = robustness_scores(ROBUSTNESS, EVALUATION, 1, coarse, train, test, split, 3, CPU)
    assert robustness_scores(ROBUSTNESS, EVALUATION, 1, coarse, train, test, split, 3, CPU) == found
    score = found["corrupted"]
    scaler = StandardScaler().fit(train.x)
    probe = LogisticRegression(C=score["C"], max_iter=200).fit(scaler.transform(train.x), train.y)
    clean = 100 * probe.score(scaler.transform(test.x), test.y)
    assert score["clean_top1"] == pytest.approx(clean)
    accuracies = []
    whole = torch.cat(
        list(evaluation_images(split, Geometry(resize=16, crop=16, interpolation="linear"), batch_size=7, threads=1))
    ).numpy()
    for name in ROBUSTNESS.corruptions:
        for severity in ROBUSTNESS.severities:
            right = 0
            for id, label in enumerate(split.labels):
                corrupted = corrupt(whole[id : id + 1], [id], name, severity, "tiny_imagenet", 3)
                right += int(probe.predict(scaler.transform(coarse(torch.from_numpy(corrupted))))[0] == label)
            accuracies.append(100 * right / len(split.labels))
            assert score["corruptions"][name][str(severity)] == pytest.approx(accuracies[-1])
    assert score["value"] == pytest.approx(np.mean(accuracies))
    assert found["corrupted / clean"]["value"] == pytest.approx(100 * np.mean(accuracies) / clean)
    assert score["protocol"] == "corruptions-tiny_imagenet"
    assert score["settings"] == ROBUSTNESS.model_dump(mode="json")
    assert score["value"] < clean  # the statistic is a real one: contrast 0.05 is in it


def test_c_is_chosen_without_the_test_split_and_of_equals_the_smallest(shards: Path):
    train = features(shards, "train")
    C = [0.0001, 0.01, 1.0]
    chosen = fit_classifier(train, ROBUSTNESS.model_copy(update={"C": C}), 0)
    held = chosen.cv_results_["mean_test_score"]
    assert chosen.best_params_["logisticregression__C"] == C[int(np.argmax(held))]
    easy = Features(np.stack([train.y, -train.y], 1).astype(np.float32), train.y)
    same = fit_classifier(easy, ROBUSTNESS.model_copy(update={"C": [1.0, 0.1, 10.0]}), 0)
    assert same.best_params_["logisticregression__C"] == 0.1
