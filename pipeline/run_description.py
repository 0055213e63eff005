"""This module gathers what a pretraining run is made of and says about itself: sections, its encoder's description, run.json."""

from typing import Any, NamedTuple

import torch
from torch import nn

from rsa import distributed, provenance
from rsa.data.index import Split
from rsa.methods.method import ControlSettings
from rsa.models.encoder import Description
from rsa.params.model import Model
from rsa.params.pretrain import Pretrain
from rsa.params.runtime import Runtime
from rsa.params.sections import sha256
from rsa.params.views import Views


class Sections(NamedTuple):
    """The sections of params.yaml that a run is made of; `pretrain` lasts as long as the method."""

    views: Views
    model: Model
    pretrain: Pretrain
    settings: Any  # MethodSettings, or ControlSettings of a control
    runtime: Runtime
    sha256: str  # of those that the stage watches


def sections(views: Views, model: Model, pretrain: Pretrain, settings: Any, runtime: Runtime, method: str) -> Sections:
    """Collect the sections of a run of `method`."""
    watched = {"views": views, "model": model, "pretrain": pretrain, f"methods.{method}": settings}
    lasting = pretrain.lasting(getattr(settings, "epochs", None))
    return Sections(views, model, lasting, settings, runtime, sha256(watched))


def encoder_description(p: Sections, method: str, seed: int, split: Split) -> Description:
    """Return the description that the run's encoder files hold."""
    seen: dict[str, Any] = {"size": p.views.size, "interpolation": p.views.interpolation, "normalize": p.views.normalize}
    # A control's file must not depend on parameters of training, which would make its evaluations stale.
    params = None if isinstance(p.settings, ControlSettings) else p.sha256
    return Description(
        method=method,
        seed=seed,
        model=p.model,
        dataset=split.folder.parent.name,
        index_sha256=split.index_sha256,
        params_sha256=params,
        **seen,
    )


def run_manifest(p: Sections, method: str, seed: int, encoder: nn.Module, split: Split, device: torch.device) -> dict[str, Any]:
    """Return the part of run.json that all runs have: identity, inputs, and the actual runtime."""
    r = p.runtime
    return {
        "method": method,
        "seed": seed,
        "parameters": sum(parameter.numel() for parameter in encoder.parameters()),
        "tensors": len(encoder.state_dict()),
        "device": device.type,
        "processes": distributed.world_size(),
        "runtime": {
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else provenance.processor(),
            "nodes": r.nodes,
            "processes": distributed.world_size(),
            "threads": r.threads.pretrain,
            "compile": r.compile,
            **(r.kernels.model_dump() if device.type == "cuda" else {}),
            **({"portable": r.portable} if device.type == "cpu" else {}),
            "on_collapse": r.on_collapse,
        },
        "index_sha256": split.index_sha256,
        "versions": provenance.versions(),
    }
