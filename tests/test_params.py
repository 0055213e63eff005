from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from rsa.data.sources import Dataset
from rsa.data.sources.embedded import Digits
from rsa.methods import rsa, settings_of
from rsa.params.document import Document, Params
from rsa.params.experiment import Experiment
from rsa.params.load import load
from rsa.params.pretrain import Pretrain
from rsa.params.report import Report
from rsa.params.sections import At, plain, read_sections, sha256
from tests.conftest import TINY, WriteParams

UNKNOWN = {
    "pretrain.epoch": "(did you mean epochs?)",  # epochs is there too: the name is known nearby
    "experiment.basline": "(did you mean baseline",
    "methods.byol.methd": "(did you mean method",
    "methods.rsa.betta": "(did you mean beta",
    "methods.rsa.beta.stat": "(did you mean start",
    "datasets.digits.siz": "(did you mean size",
    "probe.protocols.sklearn.max_iters": "(did you mean max_iter",
    "reports": "(did you mean report",
}


@pytest.mark.parametrize(("key", "hint"), UNKNOWN.items())
def test_unknown_key_is_refused_with_the_nearest_known_one(write_params: WriteParams, key: str, hint: str):
    path = write_params({key: 1})
    with pytest.raises(ValueError, match="is not a known key") as error:
        load(path)
    line = str(error.value)
    assert line.startswith(f"{path}: {key} is not a known key")
    assert hint.rstrip("?)") in line


def test_misspelt_key_is_pointed_to_the_missing_one_of_its_own_section(write_params: WriteParams):
    path = write_params({"pretrain.epochs": ..., "pretrain.epocs": 3})
    with pytest.raises(ValueError, match="epocs") as error:
        load(path)
    assert set(str(error.value).splitlines()) == {
        f"{path}: pretrain.epochs is missing",
        f"{path}: pretrain.epocs is not a known key (did you mean epochs?)",
    }


@pytest.mark.parametrize(
    "key",
    ["report", "pretrain.epochs", "methods.rsa.beta.start", "methods.byol.optimizer.momentum", "datasets.digits.size"],
)
def test_missing_key_is_named(write_params: WriteParams, key: str):
    path = write_params({key: ...})
    with pytest.raises(ValueError, match="missing") as error:
        load(path)
    assert str(error.value) == f"{path}: {key} is missing"


@pytest.mark.parametrize("key", ["methods.rsa.beta.schedule", "methods.rsa.method", "datasets.digits.source"])
def test_missing_discriminator_is_named(write_params: WriteParams, key: str):
    path = write_params({key: ...})
    with pytest.raises(ValueError, match="missing") as error:
        load(path)
    assert str(error.value) == f"{path}: {key} is missing"


BAD = [
    # ill-typed: YAML's `1` is not "1", `yes` is not 1, 1.5 is no count
    ("pretrain.epochs", "3", "must be a valid integer, got '3'"),
    ("pretrain.epochs", True, "must be a valid integer, got True"),
    ("pretrain.epochs", 1.5, "must be a valid integer, got 1.5"),
    ("model.small_stem", 1, "must be a valid boolean, got 1"),
    ("model.backbone", 18, "must be a valid string, got 18"),
    ("experiment.seeds", 3, "must be a valid list, got 3"),
    ("probe", 3, "must be a mapping, got 3"),
    ("methods.byol.optimizer.base_lr", "5e-1", "must be a valid number, got '5e-1'"),
    ("methods.byol.optimizer.base_lr", float("nan"), "must be a finite number, got nan"),
    ("methods.byol.optimizer.base_lr", float("inf"), "must be a finite number, got inf"),
    # out of range
    ("pretrain.epochs", 0, "must be greater than or equal to 1, got 0"),
    ("methods.byol.optimizer.base_lr", 0, "must be greater than 0, got 0"),
    ("methods.byol.optimizer.momentum", 1.0, "must be less than 1, got 1.0"),
    ("methods.rsa.beta.start", 1.4, "must be less than or equal to 1, got 1.4"),
    ("report.confidence", 1.0, "must be less than 1, got 1.0"),
    ("datasets.digits.test_fraction", 0.0, "must be greater than 0, got 0.0"),
    ("views.jitter.hue", 0.6, "must be less than or equal to 0.5, got 0.6"),
    ("experiment.methods", [], "must have at least 1 item after validation, not 0, got []"),
    ("views.crop_scale", [0.2, 0.5, 1.0], "must have at most 2 items after validation, not 3, got [0.2, 0.5, 1.0]"),
    ("datasets.digits.raw", "~/none", ": a path must be written out, without '~', which is not expanded, got '~/none'"),
    ("datasets.digits.raw", "", ": a path must not be empty"),
    ("pretrain.start.file", "$HOME/x", ": a path must be written out, without '$', which is not expanded, got '$HOME/x'"),
    # not one of the names
    ("runtime.device", "cuda", "must be 'auto', 'cpu' or 'gpu', got 'cuda'"),
    ("pretrain.precision", "fp16", "must be 'float32' or 'bf16', got 'fp16'"),
    ("methods.rsa.aggressive_target", "onlin", "must be 'online' or 'target', got 'onlin'"),
]


@pytest.mark.parametrize(("key", "value", "message"), BAD)
def test_bad_value_is_refused_with_key_contract_and_value(write_params: WriteParams, key: str, value: object, message: str):
    path = write_params({key: value})
    with pytest.raises(ValueError, match="must") as error:
        load(path)
    assert (
        str(error.value) == f"{path}: {key}{' ' * (message[0] != ':')}{message}"
    )  # the key alone: no other fault follows from it


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"views.crop_scale": [1.0, 0.5]},
            "views: crop_scale must be [low, high] with 0.001 <= low <= high <= 1, got [1.0, 0.5]",
        ),
        (
            {"views.crop_ratio": [0.0, 1.0]},
            "views: crop_ratio must be [low, high] with 0.01 <= low <= high <= 100, got [0.0, 1.0]",
        ),
        (
            {"views.blur.sigma": [2.0, 1.0]},
            "views.blur: sigma must be [low, high] with 0.01 <= low <= high <= 100, got [2.0, 1.0]",
        ),
        ({"pretrain.warmup_epochs": 1}, "pretrain: warmup_epochs must be less than epochs (1), got 1.0"),
        ({"experiment.seeds": [1, 0, 1]}, "experiment: seeds must not name anything twice, got [1, 0, 1]"),
        (
            {"experiment.methods": ["byol", "byol"]},
            "experiment: methods must not name anything twice, got ['byol', 'byol']",
        ),
        ({"views.normalize.mean": [0.5, 0.5]}, "views.normalize.mean.2 is missing"),
        ({"evaluation.crop": 24}, "evaluation: crop must be at most resize (8), got 24"),
        (
            {"experiment.dataset": "digit"},
            "experiment.dataset must be a section of `datasets`, got 'digit' (did you mean digits?)",
        ),
        (
            {"experiment.transfer": ["photos_tiles"]},
            "experiment.transfer must be a section of `datasets`, got 'photos_tiles' (did you mean photo_tiles?)",
        ),
        (
            {"experiment.baseline": "simclr"},
            "experiment: baseline must be one of experiment.methods, got 'simclr' (known: byol, pixels, random, rsa)",
        ),
        ({"methods.rsa": ...}, "experiment.methods must be a section of `methods`, got 'rsa' (known: byol, pixels, random)"),
        (
            {"experiment.baseline": "pixels"},
            "experiment.baseline must be a method that is trained, got the control 'pixels'",
        ),
        (
            {"methods.rsa.method": "simsaim"},
            "methods.rsa.method must be a known name, got 'simsaim' (did you mean simsiam?)",
        ),
        ({"methods.rsa": 3}, "methods.rsa must be a mapping, got 3"),
        (
            {"methods.rsa.beta": {"schedule": "cosin", "start": 0.4, "end": 0.0}},
            "methods.rsa.beta.schedule must be a known name, got 'cosin' (did you mean cosine?)",
        ),
        (
            {"datasets.digits.source": "digit"},
            "datasets.digits.source must be a known name, got 'digit' (did you mean digits?)",
        ),
        (
            {"methods.rsa.beta": 0.4},
            "methods.rsa.beta must be a mapping, got 0.4",
        ),
        ({"pretrain.accumulate": 5}, "pretrain: batch_size must be a multiple of accumulate (5), got 32"),
        (
            {"pretrain.accumulate": 32},
            "pretrain: accumulate must leave parts of at least 2 of the 32 images, got 32",
        ),
    ],
)
def test_values_that_contradict_each_other_are_refused(write_params: WriteParams, changes: dict[str, object], message: str):
    path = write_params(changes)
    with pytest.raises(ValueError, match=r"must|is missing") as error:
        load(path)
    assert str(error.value) == f"{path}: {message}"


VIT = {"backbone": "vit_tiny_patch16_224", "small_stem": False}
SMALL = {"img_size": 16, "patch_size": 4, "embed_dim": 12, "depth": 1, "num_heads": 2}
LOCAL = {"count": 2, "size": 8, "crop_scale": [0.1, 0.5], "blur_prob": 0.5, "solarize_prob": 0.0}
FIXED = r"Input height \(\d+\) doesn't match model \(\d+\)"


@pytest.mark.parametrize(
    ("key", "size", "reason", "changes"),
    [
        ("views.size", 16, FIXED, {"model": {**VIT, "backbone_args": {}}}),
        ("evaluation.crop", 8, FIXED, {"model": {**VIT, "backbone_args": SMALL}}),
        (
            "views.local.size",
            8,
            FIXED,
            {"model": {**VIT, "backbone_args": SMALL}, "evaluation.resize": 16, "evaluation.crop": 16, "views.local": LOCAL},
        ),
        (
            "evaluation.crop",
            10,
            r"Input height \(10\) should be divisible by patch size \(4\)",
            {
                "model": {**VIT, "backbone_args": {**SMALL, "dynamic_img_size": True}},
                "evaluation.resize": 10,
                "evaluation.crop": 10,
            },
        ),
        ("views.size", 16, "Output size is too small", {"model": {**VIT, "backbone": "densenet121", "backbone_args": {}}}),
    ],
)
def test_a_size_of_images_that_the_backbone_does_not_take_is_refused(
    write_params: WriteParams, key: str, size: int, reason: str, changes: dict[str, object]
):
    path = write_params(changes)
    with pytest.raises(
        ValueError, match=rf"{key} must be a size that model.backbone \w+ takes, got {size} \(.*{reason}\)"
    ) as why:
        load(path)
    assert len(str(why.value).splitlines()) == 1
    assert str(why.value).startswith(f"{path}: {key}")


def test_a_vit_that_takes_every_size_is_accepted(write_params: WriteParams):
    load(write_params({"model": {**VIT, "backbone_args": {**SMALL, "dynamic_img_size": True}}, "views.local": LOCAL}))


def test_a_folder_needs_exactly_one_kind_of_test_split(write_params: WriteParams):
    others = {"train_samples": None, "test_samples": None, "classes": None}
    folder = {"source": "folder", "raw": "raw", "train": "train", **others}
    load(write_params({"datasets.mine": {**folder, "test": "val", "test_fraction": None}}))
    load(write_params({"datasets.mine": {**folder, "test": None, "test_fraction": 0.2}}))
    for test, fraction in (("val", 0.2), (None, None)):
        path = write_params({"datasets.mine": {**folder, "test": test, "test_fraction": fraction}})
        with pytest.raises(ValueError, match="exactly one of `test`") as error:
            load(path)
        assert str(error.value).startswith(f"{path}: datasets.mine: exactly one of `test`")  # no trace of pydantic's tags


def test_a_dataset_name_that_cannot_be_part_of_a_path_is_refused(write_params: WriteParams):
    digits = {"source": "digits", "raw": "raw", "size": 8, "test_fraction": 0.2}
    path = write_params({"datasets": {"digits": digits, "photo_tiles": digits, "../up": digits}})
    with pytest.raises(ValueError, match=r"\.\./up") as error:
        load(path)
    assert "must match pattern" in str(error.value)


def test_all_faults_are_listed_at_once(write_params: WriteParams):
    path = write_params({"pretrain.epochs": -1, "probe.protocols.knn.k": "five", "transfer.draws": ..., "views.colour": {}})
    with pytest.raises(ValueError, match="epochs") as error:
        load(path)
    lines = str(error.value).splitlines()
    assert len(lines) == 4
    for key in (
        "pretrain.epochs must",
        "probe.protocols.knn.k must",
        "transfer.draws is missing",
        "views.colour is not a known key",
    ):
        assert sum(line.startswith(f"{path}: {key}") for line in lines) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pretrain: {epochs: 1", " is not valid YAML"),
        ("pretrain: " + "9" * 5000, " is not valid YAML"),
        ("[" * 100_000, " is not valid YAML"),
        ("pretrain:\n\tepochs: 1", " is not valid YAML"),
        ("pretrain: {epochs: 1}\npretrain: {epochs: 2}\n", " is not valid YAML"),  # the last must not win silently
        ("", ": the document must be a mapping, got None"),
        ("- a\n- b\n", ": the document must be a mapping, got ['a', 'b']"),
    ],
)
def test_what_is_no_document_of_sections_is_refused(tmp_path: Path, text: str, message: str):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"params\.yaml") as error:
        load(path)
    assert str(error.value).startswith(f"{path}{message}")


def test_missing_file_says_what_to_do(tmp_path: Path):
    with pytest.raises(ValueError, match=r"none\.yaml does not exist: write one by `python -m rsa recipe NAME`"):
        load(tmp_path / "none.yaml")


def test_params_cannot_be_changed_in_flight(tiny: Params):
    with pytest.raises(ValueError, match="frozen"):
        tiny.pretrain.epochs = 7  # type: ignore[misc]


def test_controls_are_told_from_methods_that_are_trained(tiny: Params):
    """Also by the report, to which methods and datasets are plain mappings."""
    document = YAML(typ="safe").load(TINY)
    del document["runtime"]
    for p in (tiny, Document.model_validate(document)):
        assert (p.controls, p.trained) == (["pixels", "random"], ["byol", "rsa"])
        assert p.key_of("methods", "rsa", "ema_start") == 0.9
        assert p.key_of("methods", "byol", "beta") is None
        assert p.key_of("datasets", "digits", "source") == "digits"


METHOD = At("methods.{method}", settings_of)


def test_sections_are_read_each_as_its_type_whatever_the_others_hold(tiny: Params, write_params: WriteParams):
    path = write_params({"views.size": "large", "report": ..., "nonsense": 1, "methods.byol": {"method": "none"}})
    wanted = {"pretrain": Pretrain, "datasets.digits": Dataset, "methods.rsa": METHOD, "experiment.transfer": list[str]}
    found = read_sections(path, wanted | {"experiment": Experiment})
    assert found == {
        "pretrain": tiny.pretrain,
        "datasets.digits": tiny.datasets["digits"],
        "methods.rsa": tiny.methods["rsa"],
        "experiment.transfer": ["photo_tiles"],
        "experiment": tiny.experiment,
    }
    assert [type(found[name]) for name in ("datasets.digits", "methods.rsa")] == [Digits, rsa.Settings]


def test_faults_of_all_wanted_sections_are_listed_with_their_keys(write_params: WriteParams):
    changes: dict[str, Any] = {
        "pretrain.epochs": 0,
        "report.confidence": ...,
        "datasets.digits.size": ...,
        "datasets.digits.siz": 3,
        "methods.rsa.beta.start": 1.4,
        "methods.byol.method": "bylo",
        "methods.random": 3,
    }
    path = write_params(changes)
    wanted = {"pretrain": Pretrain, "report": Report, "datasets.digits": Dataset, "datasets.none": Dataset}
    wanted |= dict.fromkeys(("methods.rsa", "methods.byol", "methods.random", "methods.none"), METHOD)
    with pytest.raises(ValueError, match="epochs") as error:
        read_sections(path, wanted)
    assert str(error.value).splitlines() == [
        f"{path}: pretrain.epochs must be greater than or equal to 1, got 0",
        f"{path}: report.confidence is missing",
        f"{path}: datasets.digits.size is missing",
        f"{path}: datasets.digits.siz is not a known key (did you mean size?)",
        f"{path}: datasets.none is missing",
        f"{path}: methods.rsa.beta.start must be less than or equal to 1, got 1.4",
        f"{path}: methods.byol.method must be a known name, got 'bylo' (did you mean byol?)",
        f"{path}: methods.random must be a mapping, got 3",
        f"{path}: methods.none is missing",
    ]


def test_plain_values_are_those_in_the_file_and_have_the_digest_of_the_section(tiny: Params):
    document = YAML(typ="safe").load(TINY)
    assert plain(tiny) == document
    assert plain({"views": tiny.views, "n": 3}) == {"views": document["views"], "n": 3}
    digest = sha256(tiny.methods["rsa"])
    assert digest == sha256(document["methods"]["rsa"]) == sha256(dict(reversed(document["methods"]["rsa"].items())))
    assert digest != sha256(document["methods"]["rsa"] | {"ema_start": 0.91})
