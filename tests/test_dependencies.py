"""pyproject.toml declares every package that the code imports, and requirements.lock has what it declares."""

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.engines.imports import PACKAGES, ROOT, imported_names

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
EXTRAS = [each for extra in PROJECT["optional-dependencies"].values() for each in extra if not each.startswith(PROJECT["name"])]
NEEDED = [*PROJECT["dependencies"], *EXTRAS]
DEV = PYPROJECT["dependency-groups"]["dev"]


def names(requirements: list[str]) -> set[str]:
    """`Torch[cuda]>=2` -> `torch`."""
    return {re.sub(r"[-_.]+", "-", re.split(r"[\[<>=~! ]", each)[0]).lower() for each in requirements}


def imported(folders: tuple[str, ...]) -> set[str]:
    """Other people's top-level modules."""
    sources = [file for folder in folders for file in (ROOT / folder).rglob("*.py")]
    snakefile = re.findall(r"^ *(?:from|import) (\w+)", (ROOT / "Snakefile").read_text(), re.M)
    found = {*snakefile, *(name.partition(".")[0] for source in sources for name in imported_names(source))}
    return found - set(sys.stdlib_module_names) - {*PACKAGES, "tests", "benchmarks", "__main__"}


@pytest.mark.parametrize(
    ("folders", "declared"), [(PACKAGES, NEEDED), (("tests", "benchmarks"), [*NEEDED, *DEV])], ids=["code", "tests"]
)
def test_what_is_imported_is_declared(folders: tuple[str, ...], declared: list[str]) -> None:
    distributions = packages_distributions()
    assert {module for module in imported(folders) if not names(distributions.get(module, [])) & names(declared)} == set()


def test_what_is_declared_is_locked() -> None:
    locked = re.findall(r"^(\S+)==", (ROOT / "requirements.lock").read_text(), re.M)
    assert names([*NEEDED, *DEV]) - names(locked) == set()


def test_another_python_is_told_before_packages_are_installed(tmp_path: Path) -> None:
    low, high = re.findall(r"3\.(\d+)", PROJECT["requires-python"])
    assert f"(3, {low}) <= sys.version_info < (3, {high})" in (ROOT / "Makefile").read_text()
    older = tmp_path / "python3.10"
    older.write_text("#!/bin/sh\nexit 1\n")
    older.chmod(0o755)
    command = ["make", f"VENV={tmp_path}", f"PYTHON={older}", "run"]
    alone = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}  # `make check` runs this test
    done = subprocess.run(command, cwd=ROOT, env=alone, capture_output=True, text=True)
    assert done.returncode != 0
    assert done.stdout == f"make: {older} must be Python 3.11 to 3.14: name one by `make PYTHON=python3.12 run`\n"


def test_an_image_installs_the_lock_file_as_make_does_and_a_citation_is_of_this_version() -> None:
    makefile, dockerfile = ((ROOT / name).read_text() for name in ("Makefile", "Dockerfile"))
    assert "--require-hashes -r requirements.lock" in makefile
    assert (
        "COPY requirements.lock /tmp/\nRUN python -m pip install --no-cache-dir --require-hashes -r /tmp/requirements.lock"
        in dockerfile
    )
    citation = YAML(typ="safe").load((ROOT / "CITATION.cff").read_text())
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])
    day = citation["date-released"]
    assert f"\n## {PROJECT['version']}, {day.day} {day:%B %Y}\n" in (ROOT / "CHANGELOG.md").read_text()
    methods = "".join(file.read_text() for file in (ROOT / "rsa/methods").glob("*.py"))
    assert [paper["url"] for paper in citation["references"] if paper["url"] not in methods] == []
