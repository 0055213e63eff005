"""Files that params.yaml names and that are not there."""

from pathlib import Path

import pytest

from pipeline.inputs import require_inputs
from rsa.params.document import Params


def test_every_missing_file_has_a_line_of_its_own(tmp_path: Path, tiny: Params, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    params = Path("params.yaml")
    with pytest.raises(ValueError, match="does not exist") as refused:
        require_inputs(tiny, params, unless_made=False)
    keys = ["datasets.digits.raw", "datasets.photo_tiles.raw", "pretrain.start.file"]
    assert [line.split(": ")[1] for line in str(refused.value).splitlines()] == keys
    Path("weights").mkdir()
    Path("weights/none").touch()
    Path("data/shards/digits").mkdir(parents=True)
    Path("data/shards/digits/manifest.json").touch()
    with pytest.raises(ValueError, match=r"^params.yaml: datasets.photo_tiles.raw: requirements.lock does not exist[^\n]*$"):
        require_inputs(tiny, params, unless_made=True)
    Path("requirements.lock").touch()
    require_inputs(tiny, params, unless_made=False)
