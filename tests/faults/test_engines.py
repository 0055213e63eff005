"""DVC and Snakemake are killed with their stages, and files damaged: the next run ends where an undisturbed one does."""

import contextlib
import hashlib
import os
import random
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from tests.cluster.checkout import Checkout
from tests.engines.agreement import changes
from tests.engines.conftest import Base
from tests.engines.project import ENGINES, PRODUCED, Project, wait_until
from tests.engines.states import STATES
from tests.faults.conftest import Count, once
from tests.faults.files import damage
from tests.faults.stages import FLAGS, digests
from tests.faults.strikes import SIGNALS, reached

pytestmark = pytest.mark.faults

SIGHTS = ("dvc.lock", ".dvc/tmp/rwlock", "*/*/.*.partial", ".dvc/cache/files/md5/*")
KILLS = 4  # of a case, one after the other
SHARE = 0.4  # of the time of an undisturbed run, within which each of them comes
TO_END = 600  # seconds for an engine to end
NAME = 15  # letters of the name of a process that Linux keeps
REAL_KILLS = 6
REAL_SIGHTS = (*SIGHTS, ".work/pretrain/*/*/*.partial", ".work/shard/*/*/*/*.tar")


def start(command: list[str], folder: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    with (folder.parent / "printed").open("ab") as printed:
        return subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=printed, stderr=printed, start_new_session=True
        )


def strike(engine: subprocess.Popen[bytes], chance: random.Random) -> str:
    """Send a signal to the engine, its whole group, or some process below it, and wait until all have ended."""
    number = chance.choice(SIGNALS)
    below = psutil.Process(engine.pid).children(recursive=True)
    roles = [(role(process), process) for process in below]
    whom = chance.choice(["the engine", "the whole group", *sorted({name for name, _ in roles if name})])
    with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
        match whom:
            case "the engine":
                engine.send_signal(number)
            case "the whole group":
                os.killpg(engine.pid, number)
            case _:
                chance.choice([process for name, process in roles if name == whom]).send_signal(number)
    engine.wait(TO_END)  # after the death of a rank or of a stage it goes on with what is left
    psutil.wait_procs(below, TO_END)
    wait_until(lambda: not group(engine.pid), "all that an engine has started has ended")
    return f"{number.name} of {whom}"


def role(process: psutil.Process) -> str:
    """Return what a process that an engine has started is; an empty text for shells, and for one that has just ended."""
    try:
        name, line = process.name(), " ".join(process.cmdline())
    except psutil.Error:
        return ""
    if "spawn_main" in line:
        return "a rank"
    if "-m pipeline." in line or name in {stage[:NAME] for stage in FLAGS}:  # a fork of the server has the server's line
        return "a stage"
    if name == "dvc":
        return "DVC"
    if "rsa.fork_server" in line and name != "job":
        return "the fork server"
    return "a job" if "engines" in line else ""


def group(number: int) -> list[int]:
    members = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, psutil.Error):
            if os.getpgid(process.pid) == number and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process.pid)
    return members


def kill_in_turn(
    engine: str, here: Project | Checkout, kills: int, seconds: float, chance: random.Random, sights: Sequence[str] = SIGHTS
) -> list[str]:
    """Start the engine and kill it, several times; what was done."""
    done = []
    for _ in range(kills):
        running = start(ENGINES[engine], here.folder, here.environment)
        moment = reached(here.folder, lambda running=running: running.poll() is None, chance, seconds, sights)
        if moment is None:
            break
        done.append(f"{strike(running, chance)}, {moment}")
    return done


@pytest.mark.parametrize("case", range(3))
@pytest.mark.parametrize("engine", ENGINES)
def test_the_toy_survives_kills(engine: str, case: int, built: Project, chance: random.Random, count: Count) -> None:
    """Its stages digest what they read, so that the engines' own moments are struck more often."""
    STATES["beta edited"].change(built)
    built.environment["CUDA_VISIBLE_DEVICES"] = "4" if case == 0 else ""  # without GPUs Snakemake has a fork server
    want = built.copy(built.folder.with_name("undisturbed"))
    want.environment = built.environment
    began = time.monotonic()
    want.run(engine)
    done = kill_in_turn(engine, built, KILLS, SHARE * (time.monotonic() - began), chance)
    repaired = finish(engine, built)
    assert changes(want.tree(), built.tree()) == []
    assert built.dvc("status", "--json").strip() == "{}"
    for what in done:
        count(f"toy under {engine}: {what}")
    if repaired:
        count(f"toy under {engine}: {repaired}")


def finish(engine: str, project: Project) -> str:
    """Run the engine to its end; what had to be repaired before.

    DVC reads its own files before anything of ours runs. Snakemake repairs them by itself; before `dvc repro` a person does.
    """
    if engine == "dvc":
        printed = project.call("python", "-m", "engines.repair")
        project.run(engine)
        return "dvc.lock or rwlock cut off, repaired by engines.repair" if "cut off by a killed run" in printed else ""
    project.run(engine)
    return ""


@pytest.mark.parametrize("case", range(2))
@pytest.mark.parametrize("engine", ENGINES)
def test_the_toys_files_are_damaged(
    engine: str, case: int, base: Base, built: Project, chance: random.Random, count: Count
) -> None:
    done = [*damage_results(built.folder, chance), f"dvc.lock {damage(built.folder / 'dvc.lock', chance)}"]
    finish(engine, built)
    assert changes(base.built.tree(), built.tree()) == []
    for what in done:
        count(f"toy under {engine}: {what}")


def damage_results(folder: Path, chance: random.Random) -> list[str]:
    """Damage a file of each kind, and of every second one its copy in DVC's cache, too; what was done."""
    done = []
    for top in PRODUCED:
        file = chance.choice([each for each in sorted((folder / top).rglob("*")) if each.is_file() and each.stat().st_size])
        digest = hashlib.md5(file.read_bytes()).hexdigest()
        done.append(f"file of {top} {damage(file, chance)}")
        copy = folder / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
        if chance.random() < 0.5 and copy.exists():
            done.append(f"file of DVC's cache {damage(copy, chance)}")
    return done


def real(tmp_path: Path) -> Checkout:
    """The tiny experiment with one dataset and one method, whose run has two ranks: eight stages."""
    home = tmp_path / "home"
    home.mkdir()
    runtime = {"checkpoint": {"steps": 4, "minutes": 10}, "processes": 2, "timeout_minutes": 1}
    here = Checkout(tmp_path / "here", home, {}, experiment={"methods": ["byol"], "transfer": []}, runtime=runtime)
    here.patience = 1200
    return here


@pytest.fixture(scope="session")
def real_undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], float]:
    """Return what the real pipeline makes when nothing disturbs it, and in how many seconds."""
    found: tuple[dict[str, str], float] = once(tmp_path_factory, "real", lambda folder: made(real(folder)))
    return found


def made(here: Checkout) -> tuple[dict[str, str], float]:
    began = time.monotonic()
    here.call(*ENGINES["snakemake"])
    return digests(here.folder, *PRODUCED, "dvc.lock"), time.monotonic() - began


@pytest.mark.parametrize("engine", ENGINES)
def test_the_real_pipeline_survives_kills_and_damage(
    engine: str, real_undisturbed: tuple[dict[str, str], float], tmp_path: Path, chance: random.Random, count: Count
) -> None:
    """From nothing to the report, then with a damaged file of each kind."""
    want, seconds = real_undisturbed
    here = real(tmp_path)
    done = kill_in_turn(engine, here, REAL_KILLS, SHARE * seconds, chance, REAL_SIGHTS)
    here.call("python", "-m", "engines.repair")
    here.call(*ENGINES[engine])
    assert changed(want, here) == {}
    done += damage_results(here.folder, chance)
    here.call(*ENGINES[engine])
    assert changed(want, here) == {}
    for what in done:
        count(f"real pipeline under {engine}: {what}")


def changed(want: dict[str, str], here: Checkout) -> dict[str, tuple[str | None, str | None]]:
    """The digests of the files that are not as in `want`, and of those that only one has."""
    got = digests(here.folder, *PRODUCED, "dvc.lock")
    return {name: (want.get(name), got.get(name)) for name in {*want, *got} if want.get(name) != got.get(name)}
