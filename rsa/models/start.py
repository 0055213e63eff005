"""Initial weights of a run: random, the encoder file of another run, or timm's pretrained weights."""

import hashlib
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save
from torch import Tensor, nn

from rsa.models.backbones import first_convolution
from rsa.models.encoder import load_weights, require_fit
from rsa.params.model import Model
from rsa.params.pretrain import EncoderStart, RandomStart, Start, TimmStart
from rsa.params.section import nearest


def warm_start(backbone: nn.Module, model: Model, p: Start) -> dict[str, Any]:
    """Load the initial weights into `backbone`, which was built from `model`; return a record of them for run.json.

    Random number generators are unchanged, so heads are initialised alike whatever the backbone starts from.
    ValueError if the weights are unavailable, do not fit, or do not match `sha256`.
    """
    if isinstance(p, RandomStart):
        return {"weights": p.weights}
    random: list[str] = []
    if isinstance(p, EncoderStart):
        load_weights(backbone, Path(p.file))
        loaded = backbone.state_dict()
    else:
        loaded, random = _pretrained(backbone, model, p)
        backbone.load_state_dict(loaded, strict=False)
    digest = sha256(loaded)
    if isinstance(p, TimmStart) and p.sha256 not in (None, digest):
        raise ValueError(f"pretrain.start.sha256 must be that of timm's {p.name}, {digest}, got {p.sha256}")
    return {**p.model_dump(), "sha256": digest, "loaded": sorted(loaded), "left_random": random}


def sha256(state: dict[str, Tensor]) -> str:
    """Return a digest of tensors and their names, which does not depend on the file they came from."""
    return hashlib.sha256(save({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()})).hexdigest()


def _pretrained(backbone: nn.Module, model: Model, p: TimmStart) -> tuple[dict[str, Tensor], list[str]]:
    """Return timm's weights, and the names of tensors without weights: the small stem's first convolution."""
    if not timm.is_model_pretrained(p.name):
        hint = nearest(p.name, timm.list_pretrained(f"{model.backbone.partition('.')[0]}*"))
        raise ValueError(f"pretrain.start.name must be a name that timm has weights for, got {p.name!r}{hint}")
    with torch.random.fork_rng(devices=[]):
        try:
            # without backbone_args: timm leaves tensors that its weights lack random and only logs it
            state = timm.create_model(p.name, pretrained=True, num_classes=0).state_dict()
        except OSError as why:  # the base class of the hub's errors
            raise ValueError(
                f"timm's weights {p.name} cannot be downloaded, nor are they in the cache ({type(why).__name__}): run once where "
                "there is a network and keep the cache (HF_HOME), or start from an encoder file"
            ) from why
    random = [f"{first_convolution(backbone)}.weight"] if model.small_stem else []
    for name in random:
        state.pop(name, None)
    want = {name: tensor for name, tensor in backbone.state_dict().items() if name not in random}
    require_fit(f"timm's weights {p.name}", want, state)
    return state, random
