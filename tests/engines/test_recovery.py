"""A run that was killed: what it leaves, half-written or cut off, stops neither engine, and nothing finished is lost."""

import random

import psutil
import pytest

from tests.engines.agreement import agree, assert_ran, changes
from tests.engines.conftest import Base
from tests.engines.project import ENGINES, PATIENCE, Project, below, kill, kill_all
from tests.engines.states import STATES

FAST_CUTS = ("8 KiB", "an output's digest")
SLOW_CUTS = ("empty", "first byte", "an output's entry", *(f"random {seed}" for seed in range(3)))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("state", "stage"),
    [("grid shrunk", "report"), pytest.param("beta edited", "pretrain@rsa-0", marks=pytest.mark.slow)],
)
def test_a_killed_run_is_taken_up_by_either_engine(state: str, stage: str, engine: str, built: Project) -> None:
    STATES[state].change(built)
    release = built.hold(stage)
    run = built.start(*ENGINES[engine])
    built.wait_until_held(stage, run)
    kill_all(run)
    release()
    by_dvc, by_snakemake = agree(built, thorough=False)
    assert_ran(by_dvc, STATES[state].runs)
    assert "Nothing to be done" in by_dvc.snakemake()  # its own notes of the killed run do not matter
    for project in (by_dvc, by_snakemake):
        assert list(project.folder.rglob("*.partial")) == []


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_a_stage_that_outlives_its_engine_is_left_alone_until_it_ends(engine: str, built: Project) -> None:
    STATES["beta edited"].change(built)
    before = built.lock()
    release = built.hold("pretrain@rsa-0")
    run = built.start(*ENGINES[engine])
    built.wait_until_held("pretrain@rsa-0", run)
    orphans = below(run)
    kill(run)
    printed = built.dvc("repro", fails=True)
    assert "another run is writing" in printed or "is busy, it is being blocked by" in printed
    assert built.lock() == before
    release()
    psutil.wait_procs(orphans, PATIENCE)
    by_dvc, _ = agree(built, thorough=False)
    assert by_dvc.dvc("status", "pretrain@rsa-0").endswith("up to date.\n")


@pytest.mark.parametrize("left", ["", pytest.param('{"write": {"/somewhere": {"pid": 1', marks=pytest.mark.slow)])
def test_an_rwlock_that_was_cut_off_is_put_aside_loudly(left: str, base: Base, built: Project) -> None:
    rwlock = built.folder / ".dvc" / "tmp" / "rwlock"
    rwlock.write_text(left)
    other = built.copy(built.folder.with_name("other"))
    built.dvc("status", fails=True)  # else this test would prove nothing
    assert "cut off by a killed run" in built.call("python", "-m", "engines.repair")
    assert "cut off by a killed run" in other.snakemake()
    for project in (built, other):
        project.run("dvc")
        assert project.ran() == []
        assert changes(base.built.tree(), project.tree()) == []


@pytest.mark.parametrize("cut", [*FAST_CUTS, *(pytest.param(cut, marks=pytest.mark.slow) for cut in SLOW_CUTS)])
def test_a_dvc_lock_that_was_cut_off_loses_nothing(cut: str, base: Base, built: Project) -> None:
    whole = built.lock()
    (built.folder / "dvc.lock").write_bytes(whole[: place_of(cut, whole)])
    printed = built.call("python", "-m", "engines.repair")
    if "cut off" in printed:
        assert (built.folder / "dvc.lock.cut").read_bytes() == whole[: place_of(cut, whole)]
    built.run("dvc")
    assert built.ran() == []
    assert changes(base.built.tree(), built.tree()) == []


def place_of(cut: str, whole: bytes) -> int:
    match cut:
        case "empty":
            return 0
        case "first byte":
            return 1
        case "8 KiB":  # what is written at once
            return 8192
        case "an output's digest":
            return whole.rindex(b"md5: ") + len("md5: 0123")
        case "an output's entry":
            return whole.rindex(b"      md5: ")
    return random.Random(cut).randrange(len(whole))


@pytest.mark.slow
def test_snakemake_goes_on_from_a_dvc_lock_that_was_cut_off(base: Base, built: Project) -> None:
    (built.folder / "dvc.lock").write_bytes(built.lock()[:8192])
    assert "Nothing to be done" not in built.snakemake()
    assert built.ran() == []
    assert changes(base.built.tree(), built.tree()) == []


def test_work_of_a_killed_stage_is_continued_if_nothing_that_it_read_has_changed(built: Project) -> None:
    stage = "shard@photo_tiles"
    (built.folder / "raw" / "photo_tiles").write_text("other images")
    run_and_kill(built, stage)
    changed = built.copy(built.folder.with_name("changed"))
    (changed.folder / "raw" / "photo_tiles").write_text("yet other images")
    for project in (built, changed):
        project.dvc("repro", "--single-item", stage)
    assert [event for event, *_ in built.events()] == ["start", "start", "continue", "end"]
    assert [event for event, *_ in changed.events()] == ["start", "end"]
    assert list((built.folder / ".work/shard").rglob("*.ckpt")) == []


def test_a_result_that_dvc_did_not_record_is_taken_over(built: Project) -> None:
    """DVC deletes a stage's outputs before it runs it again."""
    before = built.tree()
    STATES["beta edited"].change(built)
    release = built.hold("pretrain@rsa-0")
    run = built.start("dvc", "repro", "--single-item", "pretrain@rsa-0")
    built.wait_until_held("pretrain@rsa-0", run)
    orphans = below(run)
    kill(run)
    release()
    psutil.wait_procs(orphans, PATIENCE)
    made = (built.folder / "runs/rsa/s0/encoder.safetensors").read_bytes()
    assert made != before["runs/rsa/s0/encoder.safetensors"]
    taken_over = built.dvc("repro", "--single-item", "pretrain@rsa-0")
    assert "was finished by an earlier run with the same params, code and inputs" in taken_over
    assert built.ran().count("pretrain@rsa-0") == 1
    assert "was finished by an earlier run" not in built.dvc("repro", "--force", "--single-item", "pretrain@rsa-0")
    assert built.ran().count("pretrain@rsa-0") == 2
    built.run("dvc")
    assert (built.folder / "runs/rsa/s0/encoder.safetensors").read_bytes() == made
    assert built.dvc("status", "--json").strip() == "{}"
    assert list((built.folder / ".work/pretrain").rglob("finished.json")) == []


def run_and_kill(project: Project, stage: str) -> None:
    release = project.hold(stage)
    run = project.start("dvc", "repro", "--single-item", stage)
    project.wait_until_held(stage, run)
    kill_all(run)
    release()
