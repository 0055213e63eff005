"""Exported encoders, loaded by the libraries they are for, give the representations of the encoder."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import timm
import torch
import torchvision

from rsa.models.backbones import build_backbone
from rsa.models.export import export_onnx, export_timm, export_torchvision
from rsa.params.model import Model


def trained(p: Model) -> torch.nn.Module:
    torch.manual_seed(0)
    backbone = build_backbone(p).train()
    backbone(torch.randn(4, 3, 32, 32))  # statistics that are not the initial ones
    return backbone.eval()


def test_a_plain_resnet_goes_to_timm_torchvision_and_onnx(tmp_path: Path):
    p = Model(backbone="resnet18", backbone_args={}, small_stem=False)
    backbone, x = trained(p), torch.randn(5, 3, 64, 64)
    with torch.no_grad():
        want = backbone(x)
        assert "differs by" in export_timm(backbone, p, tmp_path / "timm.pth")
        other = timm.create_model("resnet18", num_classes=0)
        other.load_state_dict(torch.load(tmp_path / "timm.pth"))
        torch.testing.assert_close(other.eval()(x), want)
        assert "differs by" in export_torchvision(backbone, p, 64, tmp_path / "tv.pth")
        other = torchvision.models.resnet18()
        other.fc = torch.nn.Identity()
        other.load_state_dict(torch.load(tmp_path / "tv.pth"))
        torch.testing.assert_close(other.eval()(x), want)
    assert "differs by" in export_onnx(backbone, 64, tmp_path / "encoder.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "encoder.onnx")
    for count in (1, 5):
        (got,) = session.run(None, {"images": np.asarray(x[:count])})
        np.testing.assert_allclose(got, want[:count], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("arguments", [{}, {"stem_type": "deep", "stem_width": 8}])
def test_a_small_stem_goes_to_plain_timm_by_its_loader_and_has_no_torchvision_twin(arguments: dict[str, Any], tmp_path: Path):
    p = Model(backbone="resnet18", backbone_args=arguments, small_stem=True)
    backbone, x = trained(p), torch.randn(5, 3, 48, 48)
    assert "a small stem, loaded by" in export_timm(backbone, p, tmp_path / "timm.pth")
    moved = tmp_path.rename(tmp_path.with_name(f"{tmp_path.name}_moved"))
    script = (
        "import sys, runpy, torch\n"
        "model = runpy.run_path(sys.argv[1])['model']\n"
        "assert 'rsa' not in sys.modules\n"
        "torch.save(model(torch.load(sys.argv[2])), sys.argv[3])\n"
    )
    torch.save(x, moved / "x.pt")
    files = [str(moved / name) for name in ("timm_loader.py", "x.pt", "h.pt")]
    subprocess.run([sys.executable, "-c", script, *files], cwd=moved, check=True)  # as somebody without this project
    with torch.no_grad():
        torch.testing.assert_close(torch.load(moved / "h.pt"), backbone(x))
    assert "not written, torchvision has no resnet18" in export_torchvision(backbone, p, 32, moved / "tv.pth")
    assert not (moved / "tv.pth").exists()


def test_an_export_that_differs_does_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    p = Model(backbone="resnet18", backbone_args={}, small_stem=False)
    backbone = trained(p)
    monkeypatch.setattr(backbone, "forward", lambda x: torch.randn(len(x), 512))
    with pytest.raises(ValueError, match=r"timm.pth must give the encoder's representations, got others by"):
        export_timm(backbone, p, tmp_path / "timm.pth")
    assert list(tmp_path.iterdir()) == []
