"""DVC and Snakemake are killed with their stages, and files damaged: the next run ends where an undisturbed one does."""

import contextlib
import os
import random
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.cluster.checkout import Checkout
from tests.engines.agreement import changes
from tests.engines.conftest import Base
from tests.engines.project import ENGINES, PATIENCE, PRODUCED, Project, wait_until
from tests.engines.states import STATES
from tests.faults.conftest import Count
from tests.faults.files import damage
from tests.faults.stages import digests
from tests.faults.strikes import SIGNALS, reached

pytestmark = pytest.mark.faults

SIGHTS = ("dvc.lock", ".dvc/tmp/rwlock", "*/*/.*.partial", ".dvc/cache/files/md5/*")
SECONDS = 12  # in which the toy's stages that a state makes stale are run
KILLS = 3  # of a case, one after the other
REAL_KILLS = 6


def start(command: list[str], folder: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    with (folder.parent / "printed").open("ab") as printed:
        return subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=printed, stderr=printed, start_new_session=True
        )


def strike(engine: subprocess.Popen[bytes], chance: random.Random) -> str:
    """Send a signal to the engine, to its whole group, to DVC or to a stage below it, and wait until all have ended."""
    number = chance.choice(SIGNALS)
    below = psutil.Process(engine.pid).children(recursive=True)
    stages = [process for process in below if "pipeline." in words(process) and "dvc" not in words(process)]
    dvcs = [process for process in below if "repro" in words(process)]
    whom = chance.choice(["engine", "group", *(["stage"] if stages else []), *(["DVC"] if dvcs else [])])
    with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
        match whom:
            case "engine":
                engine.send_signal(number)
            case "group":
                os.killpg(engine.pid, number)
            case "stage":
                chance.choice(stages).send_signal(number)
            case "DVC":
                chance.choice(dvcs).send_signal(number)
    engine.wait(PATIENCE)
    psutil.wait_procs(below, PATIENCE)
    wait_until(lambda: not group(engine.pid), "all that an engine has started has ended")
    return f"{number.name} of {'the whole group' if whom == 'group' else 'the ' + whom if whom != 'DVC' else whom}"


def words(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def group(number: int) -> list[int]:
    members = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, psutil.Error):
            if os.getpgid(process.pid) == number and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process.pid)
    return members


def kill_in_turn(
    command: list[str], folder: Path, environment: dict[str, str], kills: int, seconds: float, chance: random.Random
) -> list[str]:
    """Start the engine and kill it, several times; what was done."""
    done = []
    for _ in range(kills):
        engine = start(command, folder, environment)
        moment = reached(folder, lambda engine=engine: engine.poll() is None, chance, seconds, SIGHTS)
        if moment is None:
            break
        done.append(f"{strike(engine, chance)}, {moment}")
    return done


@pytest.mark.parametrize("case", range(4))
@pytest.mark.parametrize("engine", ENGINES)
def test_the_toy_survives_kills(engine: str, case: int, built: Project, chance: random.Random, count: Count) -> None:
    """Its stages digest what they read, so that the engines' own moments are struck more often."""
    STATES["beta edited"].change(built)
    want = built.copy(built.folder.with_name("undisturbed"))
    want.run(engine)
    done = kill_in_turn(ENGINES[engine], built.folder, built.environment, KILLS, SECONDS, chance)
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


@pytest.mark.parametrize("case", range(4))
@pytest.mark.parametrize("engine", ENGINES)
def test_the_toys_files_are_damaged(
    engine: str,
    case: int,
    base: Base,
    built: Project,
    chance: random.Random,
    count: Count,
) -> None:
    """Results and dvc.lock."""
    kinds = []
    for top in chance.sample(["data", "runs", "features", "scores", "reports", "dvc.lock"], 3):
        path = built.folder / top
        files = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file() and each.stat().st_size)
        file = chance.choice(files)
        kinds.append(f"toy under {engine}: file of {top} {damage(file, chance)}")
    finish(engine, built)
    assert changes(base.built.tree(), built.tree()) == []
    for kind in kinds:
        count(kind)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_real_pipeline_survives_kills(engine: str, tmp_path: Path, chance: random.Random, count: Count) -> None:
    """The tiny experiment with one method and one dataset, from nothing to the report."""
    (tmp_path / "home").mkdir()
    here, want = (Checkout(tmp_path / name, tmp_path / "home", {}, runtime={"checkpoint": {"steps": 4, "minutes": 10}})
                  for name in ("here", "want"))  # fmt: skip
    began = time.monotonic()
    want.call(*ENGINES[engine])
    seconds = time.monotonic() - began
    done = kill_in_turn(ENGINES[engine], here.folder, here.environment, REAL_KILLS, seconds / 2, chance)
    here.call("python", "-m", "engines.repair")
    here.call(*ENGINES[engine])
    assert digests(here.folder, *PRODUCED, "dvc.lock") == digests(want.folder, *PRODUCED, "dvc.lock")
    for what in done:
        count(f"real pipeline under {engine}: {what}")
