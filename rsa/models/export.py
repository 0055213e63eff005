"""Export of an encoder to other formats. Each file is loaded back and compared; functions return a line for the user.

timm's and torchvision's exports have a loader beside them, a script that needs that library alone. A state dict of a small stem
fits timm's plain model and gives other features there, without an error: the loader is what was compared.
"""

import runpy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torchvision
from torch import Tensor, nn

from rsa.models.backbones import first_convolution, representation
from rsa.params.model import Model

TOLERANCE = 1e-4  # relative to the largest absolute value of a representation
ANY_SIZE = 64  # px of test images for a backbone that takes any size


def _compare(path: Path, ours: Tensor, theirs: Tensor) -> float:
    difference = float((ours - theirs).abs().max() / ours.abs().max())
    if not difference <= TOLERANCE:
        path.unlink()
        loader_of(path).unlink(missing_ok=True)
        raise ValueError(f"{path} must give the encoder's representations, got others by {difference:.1e} of the largest number")
    return difference


def _images(size: int) -> Tensor:
    return torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(0))


def loader_of(path: Path) -> Path:
    """Return the script beside an export that loads it as `model`: NAME_loader.py."""
    return path.with_name(f"{path.stem}_loader.py")


def _loaded(path: Path, library: str, lines: list[str]) -> nn.Module:
    """Write the loader of `path` beside it, and return the model that it loads with the plain library."""
    load = f'model.load_state_dict(torch.load(Path(__file__).with_name("{path.name}"), weights_only=True))'
    imports = f"from pathlib import Path\n\nimport {library}\nimport torch\n"
    loader_of(path).write_text("\n".join([imports, *lines, load, "model.eval()", ""]))
    model: nn.Module = runpy.run_path(str(loader_of(path)))["model"]
    return model


@torch.no_grad()
def export_timm(backbone: nn.Module, p: Model, path: Path) -> str:
    """Write a state dict for timm's model, and its loader, which changes the stem as rsa.models.backbones does."""
    torch.save(backbone.state_dict(), path)
    lines = [f"model = timm.create_model({p.backbone!r}, num_classes=0, **{p.backbone_args!r})"]
    if p.small_stem:
        name = first_convolution(backbone)
        out_channels = backbone.get_submodule(name).out_channels
        lines.append(f"model.set_submodule({name!r}, torch.nn.Conv2d(3, {out_channels}, 3, padding=1, bias=False))")
        lines.append("model.maxpool = torch.nn.Identity()")
    other = _loaded(path, "timm", lines)
    x = _images(backbone.patch_embed.img_size[0] if _fixed(backbone) else ANY_SIZE)  # type: ignore[union-attr, index, arg-type]
    difference = _compare(path, representation(backbone, x), representation(other, x))
    stem = " and a small stem" if p.small_stem else ""
    return f"{path}: timm's {p.backbone}{stem}, loaded by {loader_of(path)}; differs by {difference:.0e}"


@torch.no_grad()
def export_torchvision(backbone: nn.Module, p: Model, size: int, path: Path) -> str:
    """Write a state dict for torchvision's model of the same name, if there is one, and its loader."""
    build: Callable[..., nn.Module] | None = getattr(torchvision.models, p.backbone, None)
    if build is None or p.small_stem or p.backbone_args:
        return f"{path}: not written, torchvision has no {p.backbone} with these arguments and stem"
    ours = backbone.state_dict()
    if {name for name in build(weights=None).state_dict() if not name.startswith("fc.")} != set(ours):
        return f"{path}: not written, torchvision's {p.backbone} has other layers"
    torch.save(ours, path)
    lines = [f"model = torchvision.models.{p.backbone}(weights=None)", "model.fc = torch.nn.Identity()"]
    other = _loaded(path, "torchvision", lines)
    difference = _compare(path, representation(backbone, _images(size)), representation(other, _images(size)))
    return f"{path}: torchvision's {p.backbone} without fc, loaded by {loader_of(path)}; differs by {difference:.0e}"


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
