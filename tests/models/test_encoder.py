import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rsa.models.backbones import build_backbone
from rsa.models.encoder import description_of, load_weights, open_encoder, progress_of, save_encoder
from rsa.params.document import Params
from tests.conftest import described


@pytest.fixture
def trained(tiny: Params) -> nn.Module:
    """A backbone with statistics that differ from a new one's."""
    torch.manual_seed(1)
    backbone = build_backbone(tiny.model).to(memory_format=torch.channels_last).train()
    backbone(torch.randn(4, 3, 16, 16))
    return backbone


@pytest.fixture
def file(tiny: Params, trained: nn.Module, tmp_path: Path) -> Path:
    save_encoder(trained, tmp_path / "encoder.safetensors", described(tiny.model))
    return tmp_path / "encoder.safetensors"


def test_a_full_disk_is_told_as_what_it_is(tiny: Params, trained: nn.Module, full_disk: Path):
    (full_disk / "filler").write_bytes(bytes(2**16))
    with pytest.raises(OSError, match="No space left"):
        save_encoder(trained, full_disk / "encoder.safetensors", described(tiny.model))


def refused(tiny: Params, file: Path, match: str) -> str:
    """The message that refuses `file`; the network offered must be left as it was, random, and not be returned."""
    torch.manual_seed(2)
    backbone = build_backbone(tiny.model)
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    with pytest.raises(ValueError, match=match) as error:
        load_weights(backbone, file)
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())
    assert str(file) in str(error.value)
    return str(error.value)


def edit(file: Path, **tensors: Tensor | None) -> None:
    state = load_file(file)
    for name, tensor in tensors.items():
        if tensor is None:
            del state[name]
        else:
            state[name] = tensor
    save_file(state, file)


def test_round_trip_is_exact_to_the_bit(tiny: Params, trained: nn.Module, file: Path):
    torch.manual_seed(3)
    loaded = load_weights(build_backbone(tiny.model), file)
    want = trained.state_dict()
    assert loaded.state_dict().keys() == want.keys()
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, want[name]), name
        assert tensor.dtype == want[name].dtype
    x = torch.randn(2, 3, 16, 16).to(memory_format=torch.channels_last)
    loaded.to(memory_format=torch.channels_last)
    assert torch.equal(loaded.eval()(x), trained.eval()(x))


def test_the_same_network_is_the_same_file(tiny: Params, trained: nn.Module, file: Path, tmp_path: Path):
    save_encoder(trained, tmp_path / "again.safetensors", described(tiny.model))
    assert (tmp_path / "again.safetensors").read_bytes() == file.read_bytes()


def test_a_file_describes_its_encoder(tiny: Params, file: Path):
    found = description_of(file)
    assert found == described(tiny.model)


def test_a_file_of_an_earlier_version_is_opened_by_stages_alone(tiny: Params, trained: nn.Module, tmp_path: Path):
    path = tmp_path / "old.safetensors"
    about = json.dumps({"backbone": "resnet18", "progress": 0.5})
    save_file({name: tensor.contiguous() for name, tensor in trained.state_dict().items()}, path, {"encoder": about})
    assert progress_of(path) == 0.5
    assert torch.equal(open_encoder(tiny.model, path).get_parameter("bn1.weight"), trained.get_parameter("bn1.weight"))
    with pytest.raises(ValueError, match=r"old\.safetensors must describe its encoder, .*: run the `pretrain` stage again"):
        description_of(path)
    about = json.dumps({"backbone": "resnet18", "progress": 0.5, "description": {"metod": "byol"}})
    save_file(load_file(path), path, {"encoder": about})
    with pytest.raises(ValueError, match=r"old\.safetensors must .* as this version of rsa-ssl does: method is missing"):
        description_of(path)


def test_missing_file_is_refused(tiny: Params, tmp_path: Path):
    refused(tiny, tmp_path / "none.safetensors", "does not exist: run the `pretrain` stage first")


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_truncated_file_is_refused(tiny: Params, file: Path, keep: int):
    file.write_bytes(file.read_bytes()[:keep])
    refused(tiny, file, "must be a safetensors file, got one that cannot be read")


def test_file_of_another_kind_is_refused(tiny: Params, tmp_path: Path):
    torch.save({"a": torch.zeros(3)}, tmp_path / "encoder.safetensors")
    refused(tiny, tmp_path / "encoder.safetensors", "must be a safetensors file, got one that cannot be read")


def test_tensor_of_another_shape_is_refused(tiny: Params, file: Path):
    edit(file, **{"bn1.weight": torch.ones(7)})
    message = refused(tiny, file, "must fit the model of params.yaml, got 1 tensors that differ")
    assert "bn1.weight: model (8,), file (7,)" in message


def test_missing_tensor_is_refused(tiny: Params, file: Path):
    edit(file, **{"bn1.running_mean": None})
    assert "bn1.running_mean: model (8,), file none" in refused(tiny, file, "got 1 tensors that differ")


def test_tensor_too_many_is_refused(tiny: Params, file: Path):
    edit(file, **{"fc.weight": torch.ones(10, 8)})
    assert "fc.weight: model none, file (10, 8)" in refused(tiny, file, "got 1 tensors that differ")


def test_encoder_of_another_architecture_is_refused(tiny: Params, tmp_path: Path):
    other = tiny.model.model_copy(update={"backbone_args": {"layers": [1, 1, 1, 1], "channels": [16, 8, 8, 8]}})
    save_encoder(build_backbone(other), tmp_path / "encoder.safetensors", described(other))
    refused(tiny, tmp_path / "encoder.safetensors", "must fit the model of params.yaml")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(tiny: Params, file: Path, value: float):
    edit(file, **{"bn1.weight": torch.full((8,), value)})
    assert "bn1.weight" in refused(tiny, file, "must hold finite numbers, got others in")
