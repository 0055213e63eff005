"""Stages whose disk fills up, or becomes read-only, at a random moment: one line says so, and the next run completes."""

import os
import random
import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.conftest import Count
from tests.faults.stages import FLAGS, Pipeline, ended
from tests.faults.strikes import reached

pytestmark = pytest.mark.faults

STAGES = tuple(stage for stage in FLAGS if stage != "code")
MEGABYTES = 64  # of the small disk


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A tmpfs, which only root may mount."""
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "tmpfs", str(folder)], capture_output=True)
    if done.returncode:
        pytest.skip("mounting a tmpfs is not allowed here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("case", range(2))
@pytest.mark.parametrize("stage", STAGES)
def test_a_disk_that_is_full(
    stage: str, case: int, undisturbed: Pipeline, tmp_path: Path, chance: random.Random, count: Count
) -> None:
    """It has room for a random part of what the stage writes."""
    with small_disk(tmp_path / "disk") as disk:
        here = undisturbed.copy(disk / "project").without(stage)
        here.printed = tmp_path / "printed"
        shutil.rmtree(here.folder / ".work")  # a later stage frees what it holds of its input
        out = undisturbed.folder / FLAGS[stage]["out"]
        written = sum(file.stat().st_size for file in ([out] if out.is_file() else out.rglob("*")))
        room = int(chance.uniform(0, 0.9) * written)
        filler = disk / "filler"
        with filler.open("wb") as file:
            state = os.statvfs(disk)
            os.posix_fallocate(file.fileno(), 0, max(1, state.f_bavail * state.f_frsize - room))
        code, printed = here.run(stage)
        filler.unlink()
        if code:
            one_line(printed, code, stage, "no space left")
            count(f"{stage}: full disk")
        here.complete(stage)
        assert here.result(stage) == undisturbed.result(stage)
        assert here.left() == []


@pytest.mark.parametrize("stage", STAGES)
def test_a_folder_that_becomes_read_only(
    stage: str, undisturbed: Pipeline, tmp_path: Path, chance: random.Random, count: Count
) -> None:
    here = undisturbed.copy(tmp_path / "project").without(stage)
    folder = here.folder / chance.choice([Path(FLAGS[stage]["out"]).parent, Path(".work"), Path()])
    process = here.start(stage)
    reached(here.folder, process.is_alive, chance, here.seconds[stage], ())
    with read_only(folder):
        ended(process)
    if process.exitcode:
        one_line(here.printed.read_text(), process.exitcode, stage, str(folder.relative_to(here.folder)))
        count(f"{stage}: read-only folder")
    here.complete(stage)
    assert here.result(stage) == undisturbed.result(stage)
    assert here.left() == []


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Nothing can be added to or removed from the folder; root needs more than its mode for that."""
    mode = stat.S_IMODE(folder.stat().st_mode)
    root = os.geteuid() == 0
    if root and subprocess.run(["chattr", "+i", str(folder)], capture_output=True).returncode:
        pytest.skip("root cannot make a folder read-only on this file system")
    folder.chmod(0o555) if not root else None
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", str(folder)], check=True) if root else folder.chmod(mode)


def one_line(printed: str, code: int | None, stage: str, words: str) -> None:
    """Check that a stage has ended with one line of reason."""
    errors = [line for line in printed.splitlines() if "error" in line.lower() or "Traceback" in line]
    assert code == 1, f"{stage} exits with {code}:\n{printed}"
    assert len(errors) == 1, printed
    assert errors[0].startswith(f"{stage}: error: "), printed
    assert words in errors[0], printed
