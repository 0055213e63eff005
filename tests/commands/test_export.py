"""`rsa export` on an encoder as the stage `pretrain` saves it."""

from pathlib import Path

import torch
from click.testing import CliRunner, Result

from rsa.commands import commands
from rsa.models.backbones import build_backbone
from rsa.models.encoder import save_encoder
from rsa.params.document import Params
from tests.conftest import TINY, described


def export(encoder: Path, out: Path) -> Result:
    return CliRunner().invoke(commands, ["export", "--params", str(TINY), "--encoder", str(encoder), "--out", str(out)])


def test_every_format_is_written_or_said_to_be_left_out(tiny: Params, tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_encoder(build_backbone(tiny.model), tmp_path / "encoder.safetensors", described(tiny.model))
    found = export(tmp_path / "encoder.safetensors", tmp_path / "new" / "exported")
    assert found.exit_code == 0, found.output
    words = [line.partition(": ")[2] for line in found.stdout.splitlines()]
    assert [word.partition(" ")[0] for word in words] == ["timm's", "not", "ONNX,"]
    assert {path.name for path in (tmp_path / "new" / "exported").iterdir()} >= {"timm.pth", "timm_loader.py", "encoder.onnx"}


def test_an_encoder_that_is_not_there_is_named(tmp_path: Path) -> None:
    found = export(tmp_path / "none.safetensors", tmp_path / "exported")
    assert found.exit_code == 1
    assert found.stderr.startswith("rsa export: error: ")
    assert f"{tmp_path}/none.safetensors" in found.stderr
