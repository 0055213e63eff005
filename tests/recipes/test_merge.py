"""How a recipe changes the defaults (rsa.recipes.merge)."""

import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from rsa.recipes.merge import merge

ROOT = Path(__file__).resolve().parents[2]
DEFAULTS = YAML(typ="safe").load((ROOT / "recipes/defaults.yaml").read_text())


def merged(recipe: str) -> Any:
    return merge(DEFAULTS, YAML(typ="safe").load(recipe))


def entry(catalogue: str, name: str) -> Any:
    """An entry of the defaults with what it is like."""
    section, *below = catalogue.split(".")
    recipe: Any = {below[0]: [name]} if below else [name]
    document = merge(DEFAULTS, {section: recipe})[section]
    return (document[below[0]] if below else document)[name]


def test_mappings_merge_and_everything_else_replaces():
    views = merged("views: {size: 64, jitter: {hue: 0.2}, blur: {prob: [1.0, 0.1]}}")["views"]
    assert views == DEFAULTS["views"] | {
        "size": 64,
        "jitter": DEFAULTS["views"]["jitter"] | {"hue": 0.2},
        "blur": DEFAULTS["views"]["blur"] | {"prob": [1.0, 0.1]},
    }


def test_the_defaults_stay_as_they_are():
    before = str(DEFAULTS)
    merged("{methods: {byol: {optimizer: {base_lr: 1.0}}}, linear: {protocols: [hvp]}}")
    assert str(DEFAULTS) == before


def test_a_mapping_of_another_kind_replaces():
    lars = {
        "name": "lars",
        "base_lr": 0.6,
        "vector_base_lr": None,
        "end_share": 0.0,
        "momentum": 0.9,
        "weight_decay": 1e-6,
        "trust": 0.001,
        "clip_each": None,
        "clip_norm": None,
    }
    assert merge(DEFAULTS, {"methods": {"byol": {"optimizer": lars}}})["methods"]["byol"]["optimizer"] == lars
    beta = merged("methods: {rsa: {beta: {schedule: constant, value: 0.4}}}")["methods"]["rsa"]["beta"]
    assert beta == {"schedule": "constant", "value": 0.4}
    timm = {"weights": "timm", "file": "weights/none", "name": "resnet18.a1_in1k", "sha256": None}
    assert merge(DEFAULTS, {"pretrain": {"start": timm}})["pretrain"]["start"] == timm


def test_free_keys_replace():
    document = merged("{model: {backbone_args: {layers: [1, 1, 1, 1]}}, datasets: {cifar10: {train: {split: all}}}}")
    assert document["model"]["backbone_args"] == {"layers": [1, 1, 1, 1]}
    assert document["datasets"]["cifar10"]["train"] == {"split": "all"}
    assert document["datasets"]["cifar10"]["test"] == {"train": False}


def test_a_mapping_for_null_changes_the_optional_one():
    document = merged("{views: {local: {count: 6}}, shards: {resize: {short_side: 128}}}")
    assert document["views"]["local"] == DEFAULTS["optional"]["local"] | {"count": 6}
    assert document["shards"]["resize"] == {"short_side": 128, "jpeg_quality": 95}
    assert "optional" not in document


def test_a_list_picks_entries():
    protocols = merged("linear: {protocols: [lightly, hvp]}")["linear"]["protocols"]
    assert protocols == {name: entry("linear.protocols", name) for name in ("lightly", "hvp")}
    assert list(protocols) == ["lightly", "hvp"]


def test_a_mapping_picks_entries_and_changes_them():
    protocols = merged("probe: {protocols: {knn: , sklearn: {max_iter: 300}}}")["probe"]["protocols"]
    assert protocols == {
        "knn": entry("probe.protocols", "knn"),
        "sklearn": entry("probe.protocols", "sklearn") | {"max_iter": 300},
    }


def test_a_name_that_the_defaults_lack_is_a_complete_entry():
    mine = {"source": "folder", "raw": "data/raw/mine"}
    assert merge(DEFAULTS, {"datasets": {"mine": mine}})["datasets"]["mine"] == mine


def test_catalogues_that_a_recipe_does_not_name_have_what_the_experiment_uses():
    document = merged("""
        experiment: {dataset: stl10, transfer: [photo_tiles], methods: [random, simclr], baseline: simclr}
        linear: {datasets: [stl10]}
        finetune: {datasets: [digits]}
    """)
    assert list(document["datasets"]) == ["stl10", "photo_tiles", "digits"]
    assert list(document["methods"]) == ["random", "simclr"]
    empty = [document["detection"], document["robustness"], document["linear"]["protocols"], document["probe"]["protocols"]]
    assert empty == [{}] * 4


def test_changes_of_a_method_do_not_pick_it_alone():
    assert list(merged("methods: {rsa: {ema_start: 0.9}}")["methods"]) == DEFAULTS["experiment"]["methods"]


def test_like_starts_from_another_entry():
    methods = merged("methods: {byol_hard: {like: byol, hard_views: {max_combinations: 6}}}")["methods"]
    hard = DEFAULTS["optional"]["hard_views"] | {"max_combinations": 6}
    assert methods["byol_hard"] == entry("methods", "byol") | {"hard_views": hard}
    assert methods["byol"]["hard_views"] is None


def test_like_starts_from_the_recipes_own_entry_where_it_has_one():
    recipe = "methods: {hard: {like: fast, hard_views: {candidates: 8}}, fast: {like: byol, optimizer: {base_lr: 3.0}}}"
    methods = merged(recipe)["methods"]
    assert methods["hard"]["optimizer"]["base_lr"] == 3.0
    assert methods["hard"]["hard_views"]["candidates"] == 8


def test_an_entry_under_another_entrys_name():
    datasets = merged("datasets: {cifar10: {like: cifar10_zip, train_samples: null}}")["datasets"]
    assert datasets == {"cifar10": entry("datasets", "cifar10_zip") | {"train_samples": None}}


def test_anchors_and_merge_keys_are_resolved():
    methods = merged("methods: {byol: &same {ema_start: 0.9}, rsa: {<<: *same, beta: {start: 0.3}}}")["methods"]
    assert methods["rsa"]["ema_start"] == methods["byol"]["ema_start"] == 0.9
    assert methods["rsa"]["beta"] == {"schedule": "cosine", "start": 0.3, "end": 0.0}


REFUSED = {
    "pretrian: {epochs: 3}": "pretrian is not a known key (did you mean pretrain?)",
    "views: {jiter: {hue: 0.1}}": "views.jiter is not a known key (did you mean jitter?)",
    "methods: {byol: {optimizer: {base_rl: 1.0}}}": "methods.byol.optimizer.base_rl is not a known key (did you mean base_lr?)",
    "methods: {hard: {like: byol, hard_view: {}}}": "methods.hard.hard_view is not a known key (did you mean hard_views?)",
    "methods: {byol: {hard_views: {candidate: 4}}}": "hard_views.candidate is not a known key (did you mean candidates",
    "linear: {protocols: [rsa-smal]}": "got 'rsa-smal' (did you mean rsa-small",
    "datasets: {cifar11: {train_samples: 5}}": "got 'cifar11' (did you mean cifar1",
    "datasets: {cifar11: }": "got 'cifar11' (did you mean cifar1",
    "experiment: {methods: [bylo]}": "got 'bylo' (did you mean byol?)",
    "methods: {hard: {like: byoll}}": "methods.hard.like must be the name of an entry, got 'byoll' (did you mean byol?)",
    "methods: {a: {like: b}, b: {like: a}}": "methods.a must not be like itself, got a like b like a",
    "methods: {byol: 3}": "methods.byol must be a mapping, got 3",
    "linear: ": "linear must be a mapping, got None",
    "experiment: {seeds: 3}": "experiment.seeds must be a list, got 3",
    "robustness: cifar10": "robustness must be a list of names, or a mapping from names to changes, got 'cifar10'",
}


@pytest.mark.parametrize(("recipe", "why"), REFUSED.items())
def test_what_the_defaults_do_not_have_is_refused_with_the_nearest(recipe: str, why: str):
    with pytest.raises(ValueError, match=re.escape(why)):
        merged(recipe)
