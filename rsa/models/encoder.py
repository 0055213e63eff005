"""The encoder file: a trained backbone and its description as safetensors, and the only way to load one."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from rsa.models.backbones import build_backbone
from rsa.models.pixels import NAME as PIXELS
from rsa.models.pixels import Pixels
from rsa.origin import Origin, of_file
from rsa.params.faults import explained
from rsa.params.model import Model
from rsa.params.sections import plain
from rsa.params.views import ChannelStatistics, Interpolation


class Description(BaseModel):
    """What an encoder file says about its encoder: how to build it, what images it saw, and what it was trained from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str  # its name in `methods`
    seed: int
    model: Model
    size: int  # px, of the views
    interpolation: Interpolation
    normalize: ChannelStatistics
    dataset: str
    index_sha256: str  # of the images that it was trained on
    params_sha256: str | None  # of the sections of params.yaml that the run read, as in run.json; null for a control


def save_encoder(backbone: nn.Module, path: Path, description: Description, progress: float = 1.0) -> None:
    """Save parameters and buffers of `backbone` by state-dict name; `progress` is the fraction of training done."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in backbone.state_dict().items()}
    name = PIXELS if isinstance(backbone, Pixels) else description.model.backbone
    about = {"backbone": name, "progress": progress, "description": plain(description)}
    # one entry: safetensors writes several in arbitrary order
    path.write_bytes(save(state, metadata={"encoder": json.dumps(about, sort_keys=True)}))  # an OSError on a full disk


def progress_of(path: Path) -> float:
    """Return the fraction of training after which the encoder was saved."""
    return float(_about(path)["progress"])


def description_of(path: Path) -> Description:
    """Return what the file at `path` says about its encoder; ValueError for a file that says nothing, or something else."""
    description = _about(path).get("description")
    if description is None:
        raise ValueError(
            f"{path} must describe its encoder, got a file of an earlier version: run the `pretrain` stage again, or load it "
            "by rsa.models.encoder.open_encoder with the section `model` of its params.yaml"
        )
    try:
        return Description.model_validate(description)
    except ValidationError as why:
        faults = "; ".join(explained(why.errors(), description, ()))
        raise ValueError(f"{path} must describe its encoder as this version of rsa-ssl does: {faults}") from None


def origin_of(path: Path) -> Origin:
    """Return the part of a result's origin that the encoder at `path` is."""
    about = description_of(path)
    origin = {"encoder": of_file(path), "pretraining_images": about.index_sha256}
    return origin if about.params_sha256 is None else origin | {"pretraining": about.params_sha256}


def open_encoder(model: Model, path: Path, model_from: str = "params.yaml") -> nn.Module:
    """Load the encoder at `path`: the backbone of `model`, or the pixel encoder; `model_from` is named where it does not fit."""
    pixels = _about(path)["backbone"] == PIXELS
    return load_weights(Pixels() if pixels else build_backbone(model), path, model_from)


def load_weights(backbone: nn.Module, path: Path, model_from: str = "params.yaml") -> nn.Module:
    """Load `path` into `backbone`; every tensor must be in the file with its shape, so nothing stays random."""
    with _opened(path) as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    require_fit(str(path), backbone.state_dict(), state, model_from)
    backbone.load_state_dict(state)
    return backbone


def _about(path: Path) -> dict[str, Any]:
    with _opened(path) as file:
        about: dict[str, Any] = json.loads((file.metadata() or {}).get("encoder", '{"backbone": "", "progress": 1.0}'))
    return about


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist: run the `pretrain` stage first") from None
    except SafetensorError as why:
        raise ValueError(f"{path} must be a safetensors file, got one that cannot be read: {why}") from None


def require_fit(source: str, model: Mapping[str, Tensor], loaded: Mapping[str, Tensor], model_from: str = "params.yaml") -> None:
    """Raise ValueError unless the tensors `loaded` from `source` have the names and shapes of the model and are finite."""
    want = {name: tuple(tensor.shape) for name, tensor in model.items()}
    have = {name: tuple(tensor.shape) for name, tensor in loaded.items()}
    if different := sorted(name for name in want.keys() | have.keys() if want.get(name) != have.get(name)):
        lines = [f"  {name}: model {want.get(name, 'none')}, file {have.get(name, 'none')}" for name in different[:10]]
        raise ValueError(
            f"{source} must fit the model of {model_from}, got {len(different)} tensors that differ:\n" + "\n".join(lines)
        )
    if bad := [name for name, tensor in loaded.items() if not torch.isfinite(tensor.float()).all()]:
        raise ValueError(f"{source} must hold finite numbers, got others in {', '.join(bad[:5])}")
