"""Export of an encoder to other formats. Each file is loaded back and compared; functions return a line for the user."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import timm
import torch
import torchvision
from torch import Tensor, nn

from rsa.models.backbones import build_backbone, representation
from rsa.params.model import Model

TOLERANCE = 1e-4  # relative to the largest absolute value of a representation
ANY_SIZE = 64  # px of test images for a backbone that takes any size


def _compare(path: Path, ours: Tensor, theirs: Tensor) -> float:
    difference = float((ours - theirs).abs().max() / ours.abs().max())
    if not difference <= TOLERANCE:
        path.unlink()
        raise ValueError(f"{path} must give the encoder's representations, got others by {difference:.1e} of the largest number")
    return difference


def _images(size: int) -> Tensor:
    return torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def export_timm(backbone: nn.Module, p: Model, path: Path) -> str:
    """Write a state dict for timm's model (with the small stem of rsa.models.backbones if params.yaml asks for it)."""
    torch.save(backbone.state_dict(), path)
    other = build_backbone(p) if p.small_stem else timm.create_model(p.backbone, num_classes=0, **p.backbone_args)
    other.load_state_dict(torch.load(path, weights_only=True))
    x = _images(backbone.patch_embed.img_size[0] if _fixed(backbone) else ANY_SIZE)  # type: ignore[union-attr, index, arg-type]
    difference = _compare(path, representation(backbone, x), representation(other.eval(), x))
    stem = ", first convolution 3x3, no max-pool" if p.small_stem else ""
    return f"{path}: timm's {p.backbone} with {p.backbone_args or 'no arguments'}{stem}; loaded back, differs by {difference:.0e}"


@torch.no_grad()
def export_torchvision(backbone: nn.Module, p: Model, size: int, path: Path) -> str:
    """Write a state dict for torchvision's model of the same name, if there is one."""
    build: Callable[..., nn.Module] | None = getattr(torchvision.models, p.backbone, None)
    if build is None or p.small_stem or p.backbone_args:
        return f"{path}: not written, torchvision has no {p.backbone} with these arguments and stem"
    other = build(weights=None)
    other.fc = nn.Identity()
    names, ours = set(other.state_dict()), backbone.state_dict()
    if names != set(ours):
        return f"{path}: not written, torchvision's {p.backbone} has other layers"
    torch.save(ours, path)
    other.load_state_dict(torch.load(path, weights_only=True))
    difference = _compare(path, representation(backbone, _images(size)), representation(other.eval(), _images(size)))
    return f"{path}: torchvision's {p.backbone} without fc; loaded back, differs by {difference:.0e}"


def export_onnx(backbone: nn.Module, size: int, path: Path) -> str:
    """Write an ONNX graph: images (B, 3, size, size) -> representations (B, D), for any B."""
    import onnxruntime  # slow to import

    x = _images(size)
    program = torch.onnx.export(
        backbone,
        (x,),
        input_names=["images"],
        output_names=["representations"],
        dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=4096)},),
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    program.save(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        want = representation(backbone, x[:2])
    (got,) = session.run(None, {"images": np.asarray(x[:2])})
    difference = _compare(path, want, torch.from_numpy(got))
    return f"{path}: ONNX, images (B, 3, {size}, {size}); loaded back, differs by {difference:.0e}"


def _fixed(backbone: nn.Module) -> bool:
    """Return True if the backbone takes images of one size only, like a plain ViT."""
    return hasattr(backbone, "patch_embed") and not getattr(backbone, "dynamic_img_size", False)
