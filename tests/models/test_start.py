"""What runs start from: encoder files, and timm's weights as they lie in the cache after a download."""

import hashlib
from pathlib import Path

import huggingface_hub.constants
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from rsa.models.backbones import build_backbone
from rsa.models.encoder import save_encoder
from rsa.models.start import sha256, warm_start
from rsa.params.document import Params
from rsa.params.model import Model
from rsa.params.pretrain import EncoderStart, RandomStart, TimmStart
from tests.conftest import described

RESNET18 = Model(backbone="resnet18", backbone_args={}, small_stem=False)
TIMM = TimmStart(weights="timm", file="weights/none", name="resnet18.a1_in1k", sha256=None)


def state(backbone: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in backbone.state_dict().items()}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache, empty, and no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture
def downloaded(cache: Path) -> dict[str, torch.Tensor]:
    """Weights in the cache as the hub lays them out, with a classifier."""
    torch.manual_seed(5)
    weights = timm.create_model("resnet18").state_dict()
    folder = cache / "models--timm--resnet18.a1_in1k"
    (folder / "snapshots/1").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs/main").write_text("1")
    save_file(weights, folder / "snapshots/1/model.safetensors")
    return weights


def test_random_is_what_was_built(tiny: Params):
    backbone = build_backbone(tiny.model)
    before = state(backbone)
    assert warm_start(backbone, tiny.model, RandomStart(weights="random", file="weights/none")) == {"weights": "random"}
    assert all(torch.equal(before[name], tensor) for name, tensor in backbone.state_dict().items())


def test_an_encoder_file_is_loaded_whole_and_described(tiny: Params, tmp_path: Path):
    path = tmp_path / "encoder.safetensors"
    torch.manual_seed(1)
    other = build_backbone(tiny.model)
    save_encoder(other, path, described(tiny.model))
    torch.manual_seed(2)
    backbone = build_backbone(tiny.model)
    told = warm_start(backbone, tiny.model, EncoderStart(weights="encoder", file=str(path)))
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in backbone.state_dict().items())
    assert told == {
        "weights": "encoder", "file": str(path), "sha256": sha256(load_file(path)),
        "loaded": sorted(load_file(path)), "left_random": [],
    }  # fmt: skip


def test_the_digest_is_of_names_and_numbers(tmp_path: Path):
    tensors = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2)}
    save_file(tensors, tmp_path / "plain.safetensors")
    assert sha256(tensors) == hashlib.sha256((tmp_path / "plain.safetensors").read_bytes()).hexdigest()
    assert sha256(tensors) == sha256(dict(reversed(tensors.items())))
    assert sha256(tensors) != sha256({"a": tensors["a"], "c": tensors["b"]})
    assert sha256(tensors) != sha256({"a": tensors["a"], "b": tensors["b"] * 1.0001})


def test_an_encoder_of_another_network_is_refused(tiny: Params, tmp_path: Path):
    path = tmp_path / "encoder.safetensors"
    save_encoder(build_backbone(RESNET18), path, described(RESNET18))
    with pytest.raises(ValueError, match=r"must fit the model of params.yaml, got \d+ tensors that differ"):
        warm_start(build_backbone(tiny.model), tiny.model, EncoderStart(weights="encoder", file=str(path)))


def test_timms_weights_come_without_classifier_and_move_no_generator(downloaded: dict[str, torch.Tensor]):
    torch.manual_seed(7)
    backbone = build_backbone(RESNET18)
    generator = torch.get_rng_state()
    told = warm_start(backbone, RESNET18, TIMM)
    assert torch.equal(torch.get_rng_state(), generator)
    want = {name: tensor for name, tensor in downloaded.items() if not name.startswith("fc.")}
    assert state(backbone).keys() == want.keys()
    assert all(torch.equal(tensor, want[name]) for name, tensor in state(backbone).items())
    assert (told["name"], told["sha256"], told["left_random"]) == ("resnet18.a1_in1k", sha256(want), [])
    assert told["loaded"] == sorted(want)


def test_a_small_stems_first_convolution_stays_random_and_is_named(downloaded: dict[str, torch.Tensor]):
    model = RESNET18.model_copy(update={"small_stem": True})
    backbone = build_backbone(model)
    before = state(backbone)
    told = warm_start(backbone, model, TIMM)
    assert told["left_random"] == ["conv1.weight"]
    assert "conv1.weight" not in told["loaded"]
    assert torch.equal(backbone.conv1.weight, before["conv1.weight"])
    assert torch.equal(backbone.layer1[0].conv1.weight, downloaded["layer1.0.conv1.weight"])


def test_other_weights_than_those_of_sha256_are_refused(downloaded: dict[str, torch.Tensor]):
    digest = warm_start(build_backbone(RESNET18), RESNET18, TIMM)["sha256"]
    warm_start(build_backbone(RESNET18), RESNET18, TIMM.model_copy(update={"sha256": digest}))
    with pytest.raises(ValueError, match=rf"sha256 must be that of timm's resnet18.a1_in1k, {digest}, got 0{{64}}"):
        warm_start(build_backbone(RESNET18), RESNET18, TIMM.model_copy(update={"sha256": "0" * 64}))


def test_weights_that_cannot_be_had_are_an_error_that_says_what_to_do(cache: Path):
    with pytest.raises(ValueError, match=r"timm's weights resnet18.a1_in1k cannot be downloaded, nor are they in the cache"):
        warm_start(build_backbone(RESNET18), RESNET18, TIMM)


def test_weights_that_do_not_exist_are_refused_with_the_nearest(cache: Path):
    with pytest.raises(ValueError, match=r"name that timm has weights for, got 'resnet18.a9' \(did you mean .*resnet18"):
        warm_start(build_backbone(RESNET18), RESNET18, TIMM.model_copy(update={"name": "resnet18.a9"}))


@pytest.mark.parametrize("arguments", [{"layers": [1, 1, 1, 1]}, {"stem_width": 8, "stem_type": "deep"}], ids=str)
def test_arguments_that_the_weights_do_not_fit_are_refused(arguments: dict[str, object], downloaded: dict[str, torch.Tensor]):
    model = RESNET18.model_copy(update={"backbone_args": arguments})
    with pytest.raises(ValueError, match=r"timm's weights resnet18.a1_in1k must fit the model of params.yaml, got \d+ tensors"):
        warm_start(build_backbone(model), model, TIMM)
