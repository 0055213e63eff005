"""From any state both engines run the same stages, leave the same bytes, and then have nothing to do."""

import random
from contextlib import suppress
from pathlib import Path

import pytest

from tests.engines.agreement import (
    agree,
    assert_devices_disjoint,
    assert_nothing_to_do,
    assert_ran,
    assert_same,
    changes,
    without_code,
)
from tests.engines.conftest import Base
from tests.engines.project import Project
from tests.engines.states import STATES


def marked(name: str) -> object:
    return pytest.param(name, marks=[] if STATES[name].fast else [pytest.mark.slow])


@pytest.mark.parametrize("name", [marked(name) for name in STATES])
def test_engines_agree(name: str, base: Base, built: Project) -> None:
    state = STATES[name]
    state.change(built)
    by_dvc, _ = agree(built, thorough=not state.fast)
    assert_ran(by_dvc, state.runs)
    if not state.runs:
        assert (
            changes(
                base.built.tree() | {"dvc.lock": without_code(base.built)}, by_dvc.tree() | {"dvc.lock": without_code(by_dvc)}
            )
            == []
        )


def test_engines_agree_from_nothing(base: Base, written: Project) -> None:
    """Snakemake's part; DVC's is how `base` was built."""
    written.run("snakemake")
    assert_same(base.built, written)
    assert_ran(written, ("*",))
    assert_devices_disjoint(written)
    devices = {stage: devices for event, stage, devices in written.events() if event == "start"}
    assert [stage for stage in devices if devices[stage]] == [stage for stage in devices if needs_a_gpu(stage)]
    assert_nothing_to_do(written, thorough=True)


def needs_a_gpu(stage: str) -> bool:
    return stage.partition("@")[0] in ("pretrain", "extract", "representation_metrics")


def test_engines_agree_in_a_fresh_clone_with_its_data_pulled(base: Base, tmp_path: Path) -> None:
    clone = clone_of(base.built, tmp_path / "start")
    clone.dvc("pull", "--quiet")
    by_dvc, _ = agree(clone, thorough=False)
    assert_ran(by_dvc, ())
    assert changes(base.built.tree(), by_dvc.tree()) == []


@pytest.mark.slow
def test_engines_agree_in_a_fresh_clone_without_data(base: Base, tmp_path: Path) -> None:
    by_dvc, _ = agree(clone_of(base.built, tmp_path / "start"), thorough=True)
    assert_ran(by_dvc, ("*",))
    assert changes(base.built.tree(), by_dvc.tree()) == []


def clone_of(project: Project, folder: Path) -> Project:
    project.call("git", "clone", "--quiet", ".", str(folder))
    return Project(folder, project.home)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_engines_agree_from_several_changes_at_once(seed: int, built: Project) -> None:
    names = random.Random(seed).sample([name for name, state in STATES.items() if not state.alone], 3)
    print("changes:", names)  # shown where the test fails
    for name in names:
        with suppress(FileNotFoundError):  # another one has taken away what this would change
            STATES[name].change(built)
    agree(built, thorough=False)


@pytest.mark.slow
def test_engines_agree_around_a_stage_that_fails(built: Project) -> None:
    """What does not need it runs all the same; once it can run, the rest follows."""
    built.edit("params.yaml", "labels_per_class: [1", "labels_per_class: [2")  # of transfer and report
    built.fail("transfer@rsa-0-photo_tiles")
    by_dvc, by_snakemake = built.copy(built.folder.with_name("d")), built.copy(built.folder.with_name("s"))
    assert "fail/transfer@rsa-0-photo_tiles exists" in by_dvc.dvc("repro", "--keep-going", fails=True)
    assert "fail/transfer@rsa-0-photo_tiles exists" in by_snakemake.snakemake(fails=True)
    assert_same(by_dvc, by_snakemake)
    by_dvc.remove("fail")
    finished, _ = agree(by_dvc, thorough=False)
    assert_ran(finished, ("transfer@rsa-0-photo_tiles", "report"))


@pytest.mark.slow
def test_both_engines_refuse_to_go_on_without_raw_data(built: Project) -> None:
    built.remove("raw/digits")
    for project in (built.copy(built.folder.with_name("d")), built.copy(built.folder.with_name("s"))):
        project.run("dvc" if project.folder.name == "d" else "snakemake", fails=True)
        assert project.ran() == []
        assert project.lock() == built.lock()
