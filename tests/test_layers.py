"""Who may import whom, and what no file may be called."""

import sys
from pathlib import Path

import pytest

import rsa
from tests.engines.imports import PACKAGES, ROOT, imported_names

FILES = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
BY_NAME = (
    ROOT / "rsa/__init__.py",
    ROOT / "rsa/methods/__init__.py",
    ROOT / "rsa/training/trackers.py",
    ROOT / "rsa/fork_server.py",
)
DRAWERS = {"utils", "helpers", "common", "base", "manager", "tools", "misc"}


def imports(file: Path) -> set[str]:
    """Modules that a file imports: `from a.b import c` is `a.b.c` where that is a module, else `a.b`."""
    names = imported_names(file)
    ours = {name for name in names if name.partition(".")[0] in PACKAGES}
    return names - ours | {name for name in ours if is_module(name)}


def is_module(name: str) -> bool:
    path = ROOT / name.replace(".", "/")
    return path.with_suffix(".py").is_file() or path.is_dir()


def below(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def files(folder: str) -> list[Path]:
    path = ROOT / folder
    return [path] if path.is_file() else sorted(path.rglob("*.py"))


@pytest.mark.parametrize(
    ("folder", "refused"),
    [
        ("rsa", ("pipeline", "engines", "snakemake")),
        ("pipeline", ("engines", "snakemake", "rsa.commands")),
        ("engines", ("pipeline",)),
        ("rsa/training", ("rsa.methods", "rsa.evaluation", "rsa.reporting")),
        ("rsa/models", ("rsa.methods", "rsa.training", "rsa.data", "rsa.evaluation")),
        ("rsa/data", ("rsa.methods", "rsa.models", "rsa.training", "rsa.evaluation", "torchvision.transforms")),
        ("rsa/reporting", ("rsa.methods", "rsa.models", "rsa.training", "rsa.data", "torch")),
    ],
)
def test_a_lower_layer_does_not_know_a_higher_one(folder: str, refused: tuple[str, ...]) -> None:
    found = {str(file.relative_to(ROOT)): [name for name in imports(file) if below(name, refused)] for file in files(folder)}
    assert files(folder)
    assert {file: names for file, names in found.items() if names} == {}


def test_methods_know_models_schedules_params_and_the_views_that_they_ask_for() -> None:
    data = ("rsa.data.views", "rsa.data.samples", "rsa.data.masks", "rsa.data.philox", "rsa.data.normalize", "rsa.data.transfer")
    allowed = ("rsa.methods", "rsa.models", "rsa.schedules", "rsa.params", "rsa.distributed", *data)
    for file in files("rsa/methods"):
        ours = {name for name in imports(file) if below(name, ("rsa",))} - {"rsa", "rsa.data"}
        assert {name for name in ours if not below(name, allowed)} == set(), file


def test_of_the_library_engines_know_locks_and_processes_alone() -> None:
    ours = {name for file in files("engines") for name in imports(file) if below(name, ("rsa",))}
    assert ours == {"rsa.file_locks", "rsa.hand_over", "rsa.processes"}
    assert not {name for name in imports(ROOT / "rsa" / "file_locks.py") if below(name, PACKAGES)}


def test_the_library_does_not_know_the_command_line() -> None:
    library = [file for file in files("rsa") if file.parent.name != "commands" and file.name != "__main__.py"]
    assert [file for file in library if any(below(name, ("rsa.commands", "click")) for name in imports(file))] == []


def test_names_of_the_package_are_for_notebooks_alone() -> None:
    """No file of ours imports one: its fingerprint would lack the file behind it."""
    lazy = {f"rsa.{name}" for name in rsa.HOMES}
    assert {str(file.relative_to(ROOT)): found for file in FILES if (found := imported_names(file) & lazy)} == {}
    others = set(FILES) - set(files("rsa/library"))
    assert not [file for file in others if any(below(name, ("rsa.library",)) for name in imports(file))]


def test_schedules_need_nothing_but_the_standard_library() -> None:
    names = {name.partition(".")[0] for name in imports(ROOT / "rsa" / "schedules.py")}
    assert names <= sys.stdlib_module_names


def test_only_the_comparison_of_revisions_asks_dvc() -> None:
    library = [*files("rsa"), *files("pipeline")]
    asking = [file for file in library if any(below(name, ("dvc", "dvc_data", "scmrepo")) for name in imports(file))]
    assert asking == [ROOT / "rsa/commands/compare.py"]


def test_a_stage_does_not_import_another_one() -> None:
    for file in set(files("pipeline")) - {ROOT / "pipeline/finished.py"}:
        ours = {name for name in imports(file) if below(name, ("pipeline",))}
        assert ours <= {
            "pipeline",
            "pipeline.inputs",
            "pipeline.portable",
            "pipeline.run_description",
            "pipeline.stage",
            "pipeline.watch",
            "pipeline.work",
        }, file


def test_every_import_is_one_that_the_closure_sees() -> None:
    """Methods are imported by a computed name, and have a fingerprint for each: others would fail at the end of a stage.

    So are the names of the package, which are for notebooks, and packages of others that need not be there. The fork server
    imports stages, whose own closures are watched.
    """
    for file in FILES:
        text = file.read_text()
        assert "from ." not in text, f"{file}: relative import"
        assert "import_module(" not in text or file in BY_NAME, f"{file}: import of a computed name"
        assert "__import__(" not in text, f"{file}: import of a computed name"


def test_no_file_is_a_drawer() -> None:
    everywhere = [*FILES, *(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    assert [str(file.relative_to(ROOT)) for file in everywhere if DRAWERS & {file.stem, file.parent.name}] == []


@pytest.mark.parametrize("source", ["import dvc.repo", "from dvc import repo", "def f():\n    from dvc.repo import Repo"])
def test_an_import_is_found_wherever_it_hides(source: str, tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text(source)
    assert any(below(name, ("dvc",)) for name in imports(file))
