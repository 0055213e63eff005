"""Runs that another machine has trained without engines (engines.bare) are packed, imported and taken over by both engines."""

from fnmatch import fnmatch
from pathlib import Path

import pytest

from engines.bare import commands
from tests.engines.agreement import agree
from tests.engines.conftest import Base
from tests.engines.imports import ROOT
from tests.engines.project import Project
from tests.engines.toy import load_yaml

PYTHON = "python"


@pytest.fixture
def there(base: Base, tmp_path: Path) -> Project:
    """A machine that has the shards and has trained all runs."""
    project = base.written.copy(tmp_path / "there")
    project.dvc("repro", "shard")
    project.call(PYTHON, "-m", "engines.bare", "--jobs", "2")
    project.call(PYTHON, "-m", "pipeline.finished", "pack", str(tmp_path / "packed"))
    return project


@pytest.fixture
def here(base: Base, tmp_path: Path) -> Project:
    """A checkout that has the shards alone."""
    project = base.written.copy(tmp_path / "start")
    project.dvc("repro", "shard")
    return project


def import_runs(project: Project, *, fails: bool = False) -> str:
    archives = sorted(str(part) for part in project.folder.with_name("packed").glob("*"))
    return project.call(PYTHON, "-m", "pipeline.finished", "import", *archives, fails=fails)


def test_imported_runs_are_taken_over_by_both_engines(there: Project, here: Project):
    import_runs(here)
    by_dvc, _ = agree(here, thorough=False)
    assert by_dvc.ran() != []
    assert [stage for stage in by_dvc.ran() if fnmatch(stage, "pretrain@*")] == []
    for run in ("byol", "rsa"):
        made, taken_over = (project.folder / f"runs/{run}/s0/encoder.safetensors" for project in (there, by_dvc))
        assert made.read_bytes() == taken_over.read_bytes()


def change_params(project: Project) -> None:
    project.edit("params.yaml", "ema_start: 0.7", "ema_start: 0.96")


def change_data(project: Project) -> None:
    (project.folder / "raw/digits").write_text("other images")
    project.dvc("repro", "shard")


def change_code(project: Project) -> None:
    project.edit("rsa/methods/rsa.py", "VERSION = 1", "VERSION = 2")
    project.dvc("repro", "code")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (change_params, "runs/byol/s0 was made with other methods.byol.ema_start 0.7"),
        (change_data, "runs/byol/s0 was made with other data/shards/digits/manifest.json"),
        (change_code, "runs/rsa/s0 was made with other rsa/methods/rsa.py"),
    ],
)
def test_runs_of_other_params_data_or_code_are_refused(there: Project, here: Project, change, said: str):
    change(here)
    printed = import_runs(here, fails=True)
    assert said in printed
    assert "Traceback" not in printed
    assert not (here.folder / ".work/pretrain").exists()


def test_an_archive_that_is_cut_off_is_refused(there: Project, here: Project):
    (part,) = there.folder.with_name("packed").iterdir()
    part.write_bytes(part.read_bytes()[:-100])
    printed = import_runs(here, fails=True)
    assert "part-0.tar.xz cannot be read to its end" in printed
    assert "Traceback" not in printed
    assert not list((here.folder / ".work").glob("pretrain/*"))


def test_a_run_that_was_made_here_too_is_not_overwritten(there: Project, here: Project):
    here.dvc("repro", "--single-item", "pretrain@rsa-0")
    assert "runs/rsa/s0: imported" in import_runs(here)  # the same bytes
    run = here.folder / "runs/rsa/s0/run.json"
    run.unlink()
    run.write_text('{"device": "another"}')
    assert "runs/rsa/s0 has been made here, too, and a run is not overwritten" in import_runs(here, fails=True)
    assert run.read_text() == '{"device": "another"}'


def test_small_archives_are_several(there: Project, here: Project):
    packed = there.folder.with_name("packed")
    there.call(PYTHON, "-m", "pipeline.finished", "pack", str(packed), "--mb", "0.000001")
    assert sorted(part.name for part in packed.iterdir()) == [f"part-{number}.tar.xz" for number in range(4)]
    assert import_runs(here).count("imported") == 4


def test_time_that_is_up_ends_runs_and_the_same_command_continues_them(here: Project):
    release = here.hold("pretrain@rsa-0")
    cut_off = here.call(PYTHON, "-m", "engines.bare", "--methods", "byol", "rsa", "--jobs", "1", "--seconds", "15")
    assert "pretrain@byol-0: exit code 0" in cut_off
    assert "pretrain@rsa-0: exit code 75" in cut_off
    assert "1 runs finished, 0 were not started" in cut_off
    release()
    here.call(PYTHON, "-m", "engines.bare", "--methods", "byol", "rsa")
    assert [event for event, stage, _ in here.events() if stage == "pretrain@rsa-0"] == ["start", "start", "continue", "end"]
    assert [event for event, stage, _ in here.events() if stage == "pretrain@byol-0"] == ["start", "end"]


def test_the_commands_are_those_of_dvc_yaml_seed_by_seed(base: Base):
    named = dict(commands(ROOT / "params.yaml", None, None, ROOT / "dvc.yaml"))
    experiment = load_yaml(ROOT / "params.yaml")["experiment"]
    expected = [f"pretrain@{method}-{seed}" for seed in experiment["seeds"] for method in experiment["methods"]]
    assert list(named) == expected
    (some,) = commands(ROOT / "params.yaml", ["rsa"], [2], ROOT / "dvc.yaml")
    assert some == ("pretrain@rsa-2", named["pretrain@rsa-2"])
    params = base.built.folder / "params.yaml"
    of_toy = dict(commands(params, None, None, ROOT / "dvc.yaml"))
    recorded = load_yaml(base.built.folder / "dvc.lock")["stages"]
    for name, stage in recorded.items():
        if name.startswith("pretrain@"):
            assert of_toy[name] == f"{stage['cmd']} --params {params}"
