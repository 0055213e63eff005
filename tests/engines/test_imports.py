"""The import closure on a made-up tree: the check of dvc.yaml is worth what this function is worth."""

from pathlib import Path

import pytest

from tests.engines.imports import closure

TREE = {
    "pipeline/__init__.py": "",
    "pipeline/train.py": "import json\nfrom rsa.models import heads\nfrom pipeline.stage import run\n",
    "pipeline/stage.py": "def run():\n    import rsa.late\n",
    "pipeline/other.py": "import rsa.unused\n",
    "rsa/__init__.py": "",
    "rsa/late.py": "",
    "rsa/unused.py": "",
    "rsa/schedules.py": "from rsa.models import heads  # a circle\n",
    "rsa/models/__init__.py": "import torch\n",
    "rsa/models/heads.py": "import rsa.schedules as s, numpy\nfrom rsa.models.ema import move\n",
    "rsa/models/ema.py": "move = 1\n",
    "torch/__init__.py": "",
}
OF_TRAIN = set(TREE) - {"pipeline/other.py", "rsa/unused.py", "torch/__init__.py"}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name, source in TREE.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(source)
    return tmp_path


def test_closure_holds_what_is_imported_directly_later_and_through_others(tree: Path) -> None:
    assert closure("pipeline.train", tree) == OF_TRAIN


def test_closure_grows_with_an_import(tree: Path) -> None:
    with (tree / "rsa" / "models" / "ema.py").open("a") as file:
        file.write("from rsa.unused import something\n")
    assert closure("pipeline.train", tree) == OF_TRAIN | {"rsa/unused.py"}


def test_closure_shrinks_with_an_import(tree: Path) -> None:
    (tree / "pipeline" / "stage.py").write_text("def run(): ...\n")
    assert closure("pipeline.train", tree) == OF_TRAIN - {"rsa/late.py"}


def test_closure_of_a_module_alone_has_its_packages(tree: Path) -> None:
    assert closure("rsa.models.ema", tree) == {"rsa/__init__.py", "rsa/models/__init__.py", "rsa/models/ema.py"}
