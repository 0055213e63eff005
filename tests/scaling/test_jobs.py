"""Jobs ask a cluster for enough of what was predicted and measured, and for more where params or data want more."""

import json
from pathlib import Path

import pytest

from rsa import recipes
from rsa.params.document import Params
from rsa.params.load import load
from rsa.scaling.counting import Counts, count, sketch, with_hard_views
from rsa.scaling.jobs import needs
from rsa.scaling.need import Need, memory_and_minutes
from rsa.scaling.prediction import Given, predict
from tests.conftest import TINY

IMAGENET = {"train": 1_281_167, "test": 50_000}
DIGITS = {"train": 359, "test": 1_438}  # of tiny.yaml
MEASURED = {"pretrain": 1006, "extract": 976, "probe": 177, "representation_metrics": 1025}  # peak resident MB, of method rsa


@pytest.fixture(scope="module")
def tiny() -> Params:
    return load(TINY)


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory: pytest.TempPathFactory) -> Params:
    path = tmp_path_factory.mktemp("recipe") / "params.yaml"
    recipes.write("imagenet", path)
    return load(path)


@pytest.mark.parametrize("name", ["byol", "rsa"])
def test_a_sketch_counts_the_operations_and_weights_of_a_real_step(name: str, tiny: Params):
    """Activations are those of a real step, and what a batch holds beside its images."""
    real, drawn = count(tiny, name), sketch(tiny, name)
    assert (drawn.flop, drawn.parameters) == (real.flop, real.parameters)
    assert real.activations <= drawn.activations <= 1.2 * real.activations


def test_candidates_take_a_quarter_of_a_step_each_and_bring_their_views(tiny: Params):
    plain, hard = sketch(tiny, "byol"), sketch(with_hard_views(tiny, "byol", 4), "byol")
    assert hard.flop == 2 * plain.flop
    assert (len(plain.sizes), len(hard.sizes)) == (2, 4)


@pytest.fixture(scope="module")
def tinys_needs(tiny: Params) -> dict[str, Need]:
    return needs(tiny)


@pytest.fixture(scope="module")
def imagenets_needs(imagenet: Params) -> dict[str, Need]:
    return needs(imagenet)


def test_every_job_on_shards_or_features_has_a_need_and_imagenets_is_larger(
    tinys_needs: dict[str, Need], imagenets_needs: dict[str, Need]
):
    # ImageNet's recipe has linear protocols, too, but no transfer.
    families = [{name.partition("@")[0] for name in each} for each in (tinys_needs, imagenets_needs)]
    assert families[0] | {"linear"} == families[1] | {"transfer"}
    for name in ("pretrain@rsa-0", "extract@rsa-0-{}", "probe@rsa-0", "representation_metrics@rsa-0"):
        small = tinys_needs[name.format("digits")].of(DIGITS, 10)
        large = imagenets_needs[name.format("imagenet")].of(IMAGENET, 1000)
        assert large[0] > small[0]
        assert large[1] > small[1]


def test_memory_of_a_probe_grows_with_features_until_they_are_read_in_chunks(imagenets_needs: dict[str, Need]):
    probe = imagenets_needs["probe@rsa-0"]
    few, more, many, most = (probe.of({"train": count, "test": 0}, 10)[0] for count in (1000, 10_000, 1_000_000, 1_281_167))
    assert (more - few) * 1e6 >= 9000 * 2048 * 4 * 3  # the features, standardised ones, and those without the held-out part
    assert many == most


@pytest.mark.parametrize("gpus", [1, 8])
def test_time_for_pretraining_is_not_below_what_scaling_predicts_at_a_measured_rate(imagenet: Params, gpus: int):
    p = imagenet.model_copy(update={"runtime": imagenet.runtime.model_copy(update={"gpus": gpus})})
    given = Given(IMAGENET["train"], image_bytes=110_000, name_length=24, gpus_per_node=8, tflops=90.6)
    counts = Counts(sketch(p, "rsa").flop, 0, 1, 1, 1, 1, 1, 1, 1)
    hours = predict(p, counts, given, gpus)["hours of 200 epochs"]
    assert needs(p)["pretrain@rsa-0"].of(IMAGENET, 1000)[1] >= 60 * hours


@pytest.mark.parametrize("stage", MEASURED)
def test_memory_is_more_than_the_tiny_pipeline_took(stage: str, tinys_needs: dict[str, Need]):
    name = {"extract": "extract@rsa-0-digits"}.get(stage, f"{stage}@rsa-0")
    assert tinys_needs[name].of(DIGITS, 10)[0] > 2 * MEASURED[stage]


def test_a_job_asks_for_its_need_at_most_for_the_minutes_of_its_meta_and_for_its_meta_before_there_are_shards(tmp_path: Path):
    meta, need = {"gpu": 1, "mem_mb": 500, "minutes": 60}, Need("digits", 1e9, 60, bytes_train=1e6, seconds_train=6)
    assert memory_and_minutes(meta, None, tmp_path) == memory_and_minutes(meta, need, tmp_path) == {"mem_mb": 500, "minutes": 60}
    (tmp_path / "digits").mkdir()
    for train, want in ((100, {"mem_mb": 1100, "minutes": 11}), (5000, {"mem_mb": 6000, "minutes": 60})):
        splits = {"train": {"samples": train}, "test": {"samples": 1}}
        (tmp_path / "digits" / "manifest.json").write_text(json.dumps({"classes": ["a", "b"], "splits": splits}))
        assert memory_and_minutes(meta, need, tmp_path) == want


def test_unlabelled_images_count_where_they_are_pretrained_on():
    images = {"train": 10, "pretrain": 1000, "test": 1}
    assert [Need("x", 0, 0, bytes_train=1e6, pretrains=pretrains).of(images, 2)[0] for pretrains in (True, False)] == [1000, 10]
