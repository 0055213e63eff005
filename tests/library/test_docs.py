"""docs/library.md and the notebook run as they are written, where an encoder and images are."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from rsa.models.backbones import build_backbone
from rsa.models.encoder import save_encoder
from rsa.params.document import Params
from tests.conftest import described
from tests.engines.imports import ROOT
from tests.pages import blocks


@pytest.fixture
def birds(tiny: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with an encoder and images of two classes."""
    random = np.random.default_rng(0)
    for split in ("train", "test"):
        for label, name in enumerate(("jay", "robin")):
            (tmp_path / "birds" / split / name).mkdir(parents=True)
            for number in range(6):
                pixels = random.integers(0, 60, (20, 24 + number, 3), dtype=np.uint8)
                pixels[:, :, 2 * label] += 190
                Image.fromarray(pixels).save(tmp_path / "birds" / split / name / f"{number}.png")
    torch.manual_seed(0)
    (tmp_path / "runs/byol/s0").mkdir(parents=True)
    save_encoder(build_backbone(tiny.model), tmp_path / "runs/byol/s0/encoder.safetensors", described(tiny.model))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "birds"


def test_the_pages_snippets_run_one_after_the_other(birds: Path) -> None:
    names: dict[str, Any] = {}
    for block in blocks(ROOT / "docs/library.md"):
        if block.language == "python":
            exec(block.text, names)
    assert names["predicted"].shape == (12,)
    assert names["accuracy"] == 1.0  # red or blue
    assert names["views"].names == ["crop 1, coloured", "crop 2, coloured"]


def test_the_notebook_runs(birds: Path) -> None:
    names: dict[str, Any] = {}
    cells = json.loads((ROOT / "docs/neighbors.ipynb").read_text())["cells"]
    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    assert names["nearest"][0] == names["query"]
    assert names["row"].size == (768, 128)
    assert {names["paths"][index].parent.name for index in names["nearest"]} == {"jay"}
