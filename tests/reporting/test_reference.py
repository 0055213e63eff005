"""On the real rows of reference_numbers.csv."""

import functools
from typing import Any

import pandas as pd
import pytest
from ruamel.yaml import YAML

from rsa import recipes
from rsa.params.document import Document, Params
from rsa.params.pretrain import EncoderStart
from rsa.recipes.merge import merge
from rsa.reporting.reference import beside_ours, described, known_as, reference_numbers
from rsa.reporting.results import Results
from rsa.reporting.scores import Column

LIGHTLY_KNN = {"classifier": "knn", "k": [200], "temperature": 0.1}


@functools.cache
def read(name: str) -> Any:
    return YAML(typ="safe").load((recipes.FOLDER / f"{name}.yaml").read_text())


@functools.cache
def recipe(name: str) -> Document:
    """As the stage `report` reads it: datasets and methods are plain mappings, and how stages run isn't there."""
    values = merge(read("defaults"), read(name))
    del values["runtime"]
    return Document.model_validate(values)


def imagenet(**pretrain: object) -> Document:
    p = recipe("imagenet")
    return p.model_copy(update={"pretrain": p.pretrain.model_copy(update=pretrain)})


def ours(p: Document, settings: dict[str, object], protocol: str, best: float | None = None) -> tuple:
    """Results of one column on the experiment's dataset, with every seed of every method at 70."""
    rows = [
        (method, seed, p.experiment.dataset, protocol, protocol, "top1", 70.0, 0.0, best, "x", "file")
        for method in p.experiment.methods
        for seed in p.experiment.seeds
    ]
    columns = ["method", "seed", "dataset", "task", "protocol", "metric", "value", "step", "best_on_test", "settings", "file"]
    return Results(pd.DataFrame(rows, columns=columns), p), {Column(p.experiment.dataset, protocol, protocol, "top1"): settings}


def found(p: Document, settings: dict[str, object], protocol: str, best: float | None = None) -> tuple:
    same, others = beside_ours(p, *ours(p, settings, protocol, best))
    return same, {(row.method, row.metric, row.source, row.backbone, row.epochs): reasons for row, reasons in others}


def test_all_rows_are_there_with_their_sources():
    rows = reference_numbers()
    assert len(rows) == 313
    assert all(row.source and row.dataset and row.method and row.backbone and row.metric for row in rows)
    assert not [row for row in rows if row.source.startswith("/")]
    for row in rows:
        assert row.value == "" or 0 < float(row.value) < 100, row
        assert row.epochs == "" or int(row.epochs) > 0, row


def test_every_protocol_in_the_file_is_one_of_ours():
    """What a row's protocol says is what `described` says of the presets of the recipes."""
    presets = {
        described(protocol.model_dump(mode="json"))
        for p in map(recipe, recipes.names())
        for protocol in (*p.probe.protocols.values(), *p.linear.protocols.values())
    }
    assert {row.protocol for row in reference_numbers()} - {""} <= presets


def test_knn_of_lightly_stands_beside_ours_where_all_is_equal():
    same, others = found(imagenet(epochs=100), LIGHTLY_KNN, "knn-lightly")
    byol = next(row for row in same if row.published.method == "BYOL")
    assert (byol.published.value, byol.published.backbone, byol.published.epochs) == ("46.0", "resnet50", "100")
    assert (byol.method, byol.ours, byol.best_on_test) == ("byol", 70.0, False)
    assert {row.published.method for row in same} >= {"BYOL", "SwAV", "DINO", "VICReg"}
    assert next(row for row in same if row.published.method == "SwAV").ours is None
    vit = ("DINO", "kNN top1 k=200 T=0.1", "lightly/docs/source/getting_started/benchmarks.rst", "vit_small_patch16_224", "100")
    assert others[vit] == ["backbone vit_small_patch16_224"]


def test_another_number_of_epochs_is_named():
    same, others = found(imagenet(epochs=200), LIGHTLY_KNN, "knn-lightly")
    assert same == []
    lightly = "lightly/docs/source/getting_started/benchmarks.rst"
    assert others["BYOL", "kNN top1 k=200 T=0.1", lightly, "resnet50", "100"] == ["100 epochs"]


@pytest.mark.parametrize("change", [{"k": [20]}, {"temperature": 0.07}, {"k": [10, 20, 100, 200]}])
def test_another_k_or_temperature_is_another_protocol(change: dict[str, object]):
    same, others = found(imagenet(epochs=100), LIGHTLY_KNN | change, "knn-lightly")
    assert same == []
    lightly = "lightly/docs/source/getting_started/benchmarks.rst"
    assert others["BYOL", "kNN top1 k=200 T=0.1", lightly, "resnet50", "100"] == ["protocol knn k=200 T=0.1"]


def test_the_number_of_rsas_authors_stands_beside_their_preset():
    p = imagenet(epochs=200)
    settings = p.linear.protocols["rsa-imagenet"].model_dump(mode="json")
    same, _ = found(p, settings, "rsa-imagenet")
    assert [(row.published.method, row.published.value, row.method) for row in same] == [("RSA", "73.1", "rsa")]
    changed, _ = found(p, settings | {"epochs": 41}, "rsa-imagenet")
    assert changed == []


def test_the_best_epoch_on_test_stands_beside_nothing_but_ours():
    p = imagenet(epochs=100)
    settings = p.linear.protocols["lightly"].model_dump(mode="json")
    same, others = found(p, settings, "lightly")
    lightly = "lightly/docs/source/getting_started/benchmarks.rst"
    assert same == []
    assert others["BYOL", "linear top1", lightly, "resnet50", "100"][0].startswith("best epoch on test, ours is not")
    same, _ = found(p, settings, "lightly", best=71.0)
    byol = next(row for row in same if row.published.method == "BYOL")
    assert (byol.published.value, byol.ours, byol.best_on_test) == ("62.5", 71.0, True)


def test_a_part_of_a_dataset_or_a_smaller_network_is_not_the_published_one():
    p = recipe("cifar10_small")
    same, others = found(p, LIGHTLY_KNN, "knn-lightly")
    assert same == []
    assert others
    for reasons in others.values():
        assert any(reason.startswith("ours is a part of CIFAR-10 (train_samples, test_samples") for reason in reasons)
        assert any("with other channels, layers, stem_type, stem_width" in reason for reason in reasons)


def test_online_probes_are_never_comparable():
    p = recipe("cifar10")
    p = p.model_copy(update={"pretrain": p.pretrain.model_copy(update={"epochs": 1000})})
    _, others = found(p, LIGHTLY_KNN, "knn-lightly")
    assert others["BYOL", "online linear top1", "solo-learn/README.md", "resnet18", "1000"] == [
        "protocol online linear top1, settings unknown"
    ]


def test_the_nearest_come_first_and_of_these_our_methods():
    p = imagenet(epochs=200)
    _, others = beside_ours(p, *ours(p, LIGHTLY_KNN, "knn-lightly"))
    counts = [len(other.reasons) for other in others]
    assert counts == sorted(counts)
    ran = {known_as(p.methods[method]["method"]) for method in p.experiment.methods}
    nearest = [known_as(other.published.method) in ran for other in others if len(other.reasons) == counts[0]]
    assert nearest == sorted(nearest, reverse=True)


def test_a_dataset_without_published_numbers_has_none(tiny: Params):
    assert beside_ours(tiny, *ours(tiny, LIGHTLY_KNN, "knn")) == ([], [])


def test_names_that_mean_the_same_are_one():
    assert known_as("ImageNet-1k") == known_as("imagenet") == "imagenet1k"
    assert known_as("MoCo V3") == known_as("moco_v3") == known_as("mocov3")
    assert known_as("Barlow Twins") == known_as("BarlowTwins") == known_as("barlow_twins")
    assert known_as("CIFAR-10") == known_as("CIFAR10") != known_as("CIFAR-100")


def test_a_warm_start_is_not_the_published_one():
    start = EncoderStart(weights="encoder", file="encoder.safetensors")
    same, others = found(imagenet(epochs=100, start=start), LIGHTLY_KNN, "knn-lightly")
    assert same == []
    lightly = "lightly/docs/source/getting_started/benchmarks.rst"
    assert others["BYOL", "kNN top1 k=200 T=0.1", lightly, "resnet50", "100"] == ["ours started from encoder weights"]
