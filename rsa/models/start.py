"""What a run starts from: random weights, the encoder file of another run, or weights that timm has for the backbone."""

import hashlib
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save
from torch import Tensor, nn

from rsa.models.backbones import first_convolution
from rsa.models.encoder import load_encoder, require_fit
from rsa.params.model import Model
from rsa.params.pretrain import EncoderStart, RandomStart, Start, TimmStart
from rsa.params.section import nearest


def warm_start(backbone: nn.Module, model: Model, p: Start) -> dict[str, Any]:
    """Load into `backbone`, which was built of `model`, what it starts from; returns what was loaded, for run.json.

    Random number generators stay as they are: heads start from the same numbers whatever the backbone starts from.
    ValueError where the weights cannot be had, do not fit, or are not those of `sha256`.
    """
    if isinstance(p, RandomStart):
        return {"weights": p.weights}
    random: list[str] = []
    if isinstance(p, EncoderStart):
        load_encoder(backbone, Path(p.file))
        loaded = backbone.state_dict()
    else:
        loaded, random = _pretrained(backbone, model, p)
        backbone.load_state_dict(loaded, strict=False)
    digest = sha256(loaded)
    if isinstance(p, TimmStart) and p.sha256 not in (None, digest):
        raise ValueError(f"pretrain.start.sha256 must be that of timm's {p.name}, {digest}, got {p.sha256}")
    return {**p.model_dump(), "sha256": digest, "loaded": sorted(loaded), "left_random": random}


def sha256(state: dict[str, Tensor]) -> str:
    """Of tensors and their names; not of a file, so that it is the same whatever file they came in."""
    return hashlib.sha256(save({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()})).hexdigest()


def _pretrained(backbone: nn.Module, model: Model, p: TimmStart) -> tuple[dict[str, Tensor], list[str]]:
    """timm's weights for the backbone, and the names of those that it has none for: the small stem's first convolution."""
    if not timm.is_model_pretrained(p.name):
        hint = nearest(p.name, timm.list_pretrained(f"{model.backbone.partition('.')[0]}*"))
        raise ValueError(f"pretrain.start.name must be a name that timm has weights for, got {p.name!r}{hint}")
    with torch.random.fork_rng(devices=[]):
        try:
            # not with backbone_args: timm leaves random, with a log line, what its weights have no tensor for
            state = timm.create_model(p.name, pretrained=True, num_classes=0).state_dict()
        except OSError as why:  # of every kind that its hub raises
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
