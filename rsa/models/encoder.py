"""The encoder file: a trained backbone as safetensors, and the only way to load one."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from rsa.models.backbones import build_backbone
from rsa.models.pixels import NAME as PIXELS
from rsa.models.pixels import Pixels
from rsa.params.model import Model


def save_encoder(backbone: nn.Module, path: Path, backbone_name: str, progress: float = 1.0) -> None:
    """Save parameters and buffers of `backbone` by state-dict name; `progress` is the fraction of training done."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in backbone.state_dict().items()}
    about = json.dumps({"backbone": backbone_name, "progress": progress})
    save_file(state, path, metadata={"encoder": about})  # one entry: safetensors writes several in arbitrary order


def progress_of(path: Path) -> float:
    """Return the fraction of training after which the encoder was saved."""
    return float(_about(path)["progress"])


def open_encoder(model: Model, path: Path) -> nn.Module:
    """Load the encoder at `path`: the backbone of `model`, or the pixel encoder."""
    pixels = _about(path)["backbone"] == PIXELS
    return load_encoder(Pixels() if pixels else build_backbone(model), path)


def load_encoder(backbone: nn.Module, path: Path) -> nn.Module:
    """Load `path` into `backbone`; every tensor must be in the file with its shape, so nothing stays random."""
    with _opened(path) as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    require_fit(str(path), backbone.state_dict(), state)
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


def require_fit(source: str, model: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Raise ValueError unless the tensors `found` in `source` have the names and shapes of the model and are finite."""
    want = {name: tuple(tensor.shape) for name, tensor in model.items()}
    have = {name: tuple(tensor.shape) for name, tensor in found.items()}
    if different := sorted(name for name in want.keys() | have.keys() if want.get(name) != have.get(name)):
        lines = [f"  {name}: model {want.get(name, 'none')}, file {have.get(name, 'none')}" for name in different[:10]]
        raise ValueError(
            f"{source} must fit the model of params.yaml, got {len(different)} tensors that differ:\n" + "\n".join(lines)
        )
    if bad := [name for name, tensor in found.items() if not torch.isfinite(tensor.float()).all()]:
        raise ValueError(f"{source} must hold finite numbers, got others in {', '.join(bad[:5])}")
