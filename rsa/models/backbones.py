"""Backbones: timm's networks without their classifier, images (B, 3, H, W) -> representation h (B, D)."""

from typing import cast

import timm
import torch
from torch import nn

from rsa.models.position_embeddings import use_matrices
from rsa.params.model import Model
from rsa.params.section import nearest


def build_backbone(params: Model) -> nn.Module:
    """Build the backbone of params.yaml; its attribute `num_features` is D. ValueError for a name unknown to timm."""
    if not timm.is_model(params.backbone):
        hint = nearest(params.backbone, timm.list_models())
        raise ValueError(f"model.backbone must be a name that timm knows, got {params.backbone!r}{hint}")
    use_matrices()
    for weights in ("pretrained", "checkpoint_path"):
        if params.backbone_args.get(weights):
            raise ValueError(f"model.backbone_args must not hold {weights}: use pretrain.start to load weights")
    try:
        backbone: nn.Module = timm.create_model(params.backbone, num_classes=0, **params.backbone_args)
    except (TypeError, ValueError, AttributeError, IndexError, KeyError, AssertionError, RuntimeError) as why:  # raised by timm
        raise ValueError(f"model.backbone_args must be arguments of timm's {params.backbone}: {why}") from why
    if params.small_stem:
        _small_stem(backbone, params.backbone)
    return backbone


def _small_stem(backbone: nn.Module, name: str) -> None:
    """Adapt the stem to small images: 3x3 first convolution, stride 1, no max-pool (Chen et al. 2020, appendix B.9).

    Its weights start as torch's default, with a standard deviation of 0.111, as in the code of RSA's authors.
    """
    if not hasattr(backbone, "maxpool") or not isinstance(getattr(backbone, "pretrained_cfg", {}).get("first_conv"), str):
        raise ValueError(f"model.small_stem must be false for {name}: it has no first convolution with a max-pool behind it")
    path = first_convolution(backbone)
    out_channels = cast(nn.Conv2d, backbone.get_submodule(path)).out_channels
    backbone.set_submodule(path, nn.Conv2d(3, out_channels, 3, stride=1, padding=1, bias=False))
    backbone.maxpool = nn.Identity()


def first_convolution(backbone: nn.Module) -> str:
    """Return the name of the first convolution, for a backbone whose timm configuration has it."""
    path = cast(dict[str, str], backbone.pretrained_cfg)["first_conv"]
    return f"{path}.0" if isinstance(backbone.get_submodule(path), nn.Sequential) else path  # a deep stem


def compile_copies(network: nn.Module, backbone: nn.Module) -> None:
    """Compile `backbone` and its copies in `network` in place with torch.compile; tensor names stay the same."""
    for module in network.modules():
        if type(module) is type(backbone):
            module.compile()


def representation(backbone: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Return the representation h (B, D), float32 or float64."""
    return full_precision(cast(torch.Tensor, backbone(x)).flatten(1))


def variants(backbone: nn.Module, x: torch.Tensor, blocks: list[int], pooling: list[str]) -> dict[tuple[int, str], torch.Tensor]:
    """Return representations (B, D) for linear probes of ViTs (Caron et al. 2021, F.2; Oquab et al. 2023, B.3).

    `cls`: the normalised class tokens of the last `blocks` blocks, concatenated; `cls_avg`: those and the mean patch token of
    the last block; `avg`: the backbone's own representation, with one block only. ValueError without a class token.
    """
    pooled: dict[tuple[int, str], torch.Tensor] = {}
    if set(pooling) != {"avg"}:
        layers = getattr(backbone, "get_intermediate_layers", None)
        if layers is None or not getattr(backbone, "num_prefix_tokens", 0):
            raise ValueError(f"pooling must be [avg] for a backbone without a class token, got {pooling}")
        outputs = layers(x, n=max(blocks), return_prefix_tokens=True, norm=True)
        tokens = [full_precision(prefix[:, 0]) for _, prefix in outputs]
        mean = full_precision(outputs[-1][0]).mean(1)
        for count in blocks:
            classes = torch.cat(tokens[-count:], 1)
            pooled |= {(count, "cls"): classes, (count, "cls_avg"): torch.cat([classes, mean], 1)}
    if "avg" in pooling:
        if blocks != [1]:
            raise ValueError(f"blocks must be [1] for pooling avg, got {blocks}")
        pooled[1, "avg"] = representation(backbone, x)
    return {(count, pool): pooled[count, pool] for count in blocks for pool in pooling}


def full_precision(x: torch.Tensor) -> torch.Tensor:
    """Convert lower precisions to float32; float64 stays."""
    return x if x.dtype == torch.float64 else x.float()
