"""What makes a fingerprint change and what does not, and which files are in it."""

import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from rsa.fingerprint import closure, digest, fingerprint
from tests.engines.imports import ROOT

SOURCE = '''
"""A module."""
import os

class A:
    """é: a class whose
    docstring has two lines."""

    def f(self, x):  # a comment
        """One line."""; return x


def g(): "text"

TEXT = """kept

   # not a comment: kept
kept   
"""
F = f"""a {TEXT}

 b"""
JOINED = ("a"
    # between
    "b")
'''  # noqa: W291


def of(tmp_path: Path, source: str) -> str:
    file = tmp_path / "module.py"
    file.write_text(source)
    return digest(file)


SAME = {
    "comment": ("# a comment", '# another: \'quotes\', """three""" and # hashes'),
    "no comment": ("  # a comment", ""),
    "comment inside an expression": ("    # between\n", ""),
    "module docstring": ('"""A module."""', '"""Another\n\nmodule."""'),
    "no module docstring": ('"""A module."""\n', ""),
    "docstring with umlauts": ("é: a class whose\n    docstring has two lines.", "ü"),
    "docstring before a statement": ('"""One line."""', "'''Other.'''"),
    "docstring behind a colon": ('def g(): "text"', 'def g(): "other"'),
    "blank lines": ("import os\n", "\n\nimport os   \n\n"),
    "comment line": ("class A", "# a comment\nclass A"),
}


@pytest.mark.parametrize("what", SAME)
def test_comments_docstrings_and_blank_lines_change_nothing(what: str, tmp_path: Path):
    old, new = SAME[what]
    assert old in SOURCE
    assert of(tmp_path, SOURCE.replace(old, new, 1)) == of(tmp_path, SOURCE)


OTHER = {
    "code": ("return x", "return -x"),
    "a name": ("def f", "def h"),
    "a string": ("kept\n\n", "Kept\n\n"),
    "a blank line in a string": ("kept\n\n", "kept\n"),
    "a comment in a string": ("# not a comment", "# no comment"),
    "spaces at the end of a line of a string": ("kept   \n", "kept\n"),
    "a blank line in an f-string": ("a {TEXT}\n\n", "a {TEXT}\n"),
    "a docstring that becomes a value": ('"""A module."""', 'X = """A module."""'),
}


@pytest.mark.parametrize("what", OTHER)
def test_everything_else_changes_it(what: str, tmp_path: Path):
    old, new = OTHER[what]
    assert old in SOURCE
    assert of(tmp_path, SOURCE.replace(old, new, 1)) != of(tmp_path, SOURCE)


def test_a_source_that_does_not_parse_is_named_with_its_line(tmp_path: Path):
    with pytest.raises(ValueError, match=r"module\.py, line 2: "):
        of(tmp_path, "x = 1\ndef f(:\n")


def test_other_files_count_whole(tmp_path: Path):
    (tmp_path / "page.css").write_text("/* a comment */")
    before = digest(tmp_path / "page.css")
    (tmp_path / "page.css").write_text("/* another */")
    assert digest(tmp_path / "page.css") != before


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13", "3.14"])
def test_every_version_of_python_gives_the_same(version: str, tmp_path: Path):
    """All sources of this project are hashed, whose f-strings are tokenised in another way from 3.12 on."""
    python = shutil.which(f"python{version}")
    if python is None or subprocess.run([python, "-c", ""], capture_output=True).returncode:
        pytest.skip(f"there is no python{version} here")
    script = textwrap.dedent("""
        import sys
        from pathlib import Path
        from rsa.fingerprint import digest
        print(*(digest(file) for file in sorted([*Path("rsa").rglob("*.py"), Path(sys.argv[1])])))
    """)
    (tmp_path / "module.py").write_text(SOURCE)
    digests = [
        subprocess.run([python, "-c", script, str(tmp_path / "module.py")], cwd=ROOT, capture_output=True, text=True, check=True)
        for python in (python, sys.executable)
    ]
    assert digests[0].stdout == digests[1].stdout


TREE = {
    "pipeline/__init__.py": "",
    "pipeline/train.py": "import json\nfrom rsa.models import heads\nfrom pipeline.stage import run\n",
    "pipeline/stage.py": "def run():\n    import rsa.late\n",
    "pipeline/other.py": "import rsa.unused\n",
    "rsa/__init__.py": "",
    "rsa/late.py": "",
    "rsa/unused.py": "",
    "rsa/schedules.py": "from .models import heads  # a circle\n",
    "rsa/models/__init__.py": "import torch\n",
    "rsa/models/heads.py": "import rsa.schedules as s, numpy\nfrom . import ema\n",
    "rsa/models/ema.py": "from ..relative import move\n",
    "rsa/models/table.csv": "1,2\n",
    "rsa/relative.py": "move = 1\n",
    "torch/__init__.py": "",
}
OF_TRAIN = set(TREE) - {"pipeline/other.py", "rsa/unused.py", "torch/__init__.py", "rsa/models/table.csv"}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name, source in TREE.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(source)
    return tmp_path


def names(tree: Path, *modules: str) -> set[str]:
    return {str(file.relative_to(tree)) for file in closure(modules, tree)}


def test_closure_holds_what_is_imported_directly_later_relatively_and_through_others(tree: Path):
    assert names(tree, "pipeline.train") == OF_TRAIN
    assert names(tree, "rsa.models.ema") == {"rsa/__init__.py", "rsa/models/__init__.py", "rsa/models/ema.py", "rsa/relative.py"}


def test_closure_follows_every_edit(tree: Path):
    (tree / "rsa/models/ema.py").write_text("from rsa.unused import something\n")
    assert names(tree, "pipeline.train") == OF_TRAIN - {"rsa/relative.py"} | {"rsa/unused.py"}
    (tree / "pipeline/stage.py").write_text("def run(): ...\n")
    assert "rsa/late.py" not in names(tree, "pipeline.train")


def test_a_module_that_is_not_there_is_refused(tree: Path):
    with pytest.raises(ValueError, match=r"rsa\.methods\.none must be a module"):
        closure(("pipeline.train", "rsa.methods.none"), tree)


def test_fingerprint_has_a_line_for_each_file_and_the_resources_beside_them(tree: Path):
    lines = fingerprint("pipeline.train", root=tree).splitlines()
    assert [line.split("  ")[1] for line in lines] == sorted(OF_TRAIN | {"rsa/models/table.csv"})
    assert lines == [f"{digest(tree / name)}  {name}" for name in (line.split("  ")[1] for line in lines)]


def test_a_run_depends_on_its_own_methods_file_alone():
    lines = fingerprint("pipeline.pretrain", "rsa.methods.simclr")
    assert "rsa/methods/simclr.py" in lines
    for other in ("byol", "rsa", "dino", "ibot", "barlow_twins", "random", "pixels"):
        assert f"rsa/methods/{other}.py" not in lines
