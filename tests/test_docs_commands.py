"""Commands in the blocks of README and docs are run as they stand in a small experiment; others are named with the reason."""

import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from tests.conftest import TINY
from tests.engines.imports import ROOT
from tests.engines.project import Project
from tests.pages import PAGES, blocks, copy_checkout, merged, parsed

ADDED = "tests/test_docs_additions.py runs it, where what the page adds is there"
IMAGENET = "needs ImageNet"
S3 = "needs S3: tests/cluster/test_storage.py and tests/data/test_remote_shards.py use a server of their own"
SLURM = "needs Slurm, or several nodes: tests/cluster"
NOT_HERE = {  # beginning of a command -> why it does not run here
    "make run": "makes an environment of 7 GB",
    "make test": "runs all tests",
    "make test-gpu": "needs a GPU",
    "make test-faults": "takes a quarter of an hour: tests/faults",
    "pytest tests/faults": "the same",
    "source .venv/bin/activate": "the tests run in the environment",
    "python -m rsa doctor": "takes minutes: tests/commands/test_doctor.py",
    "snakemake --profile profiles/slurm": SLURM,
    "first$ ": SLURM,
    "second$ ": SLURM,
    "srun ": SLURM,
    "export AWS_": S3,
    "dvc push": S3,
    "aws s3 sync": S3,
    "dvc repro shard@imagenet": IMAGENET,
    "mkdir -p manifests": IMAGENET,
    "git add manifests": IMAGENET,
    "dvc repro shard@birds": ADDED,
    "python -m rsa verify data/shards/birds": ADDED,
    "dvc repro pretrain@align_uniform": ADDED,
    "dvc repro class_norms": ADDED,
    "pytest tests/engines/test_dvc_yaml.py": ADDED,
}
STANDS_FOR = {"COMMIT": "HEAD", "pretrain.epochs=400": "pretrain.epochs=2"}
WAY_BACK = ("git restore params.yaml dvc.lock", "dvc checkout --force")  # of docs/compare.md; a report made by hand is unsaved


def commands(page: Path) -> list[str]:
    """The commands of a page's blocks, without comments."""
    lines = [line for block in blocks(page) if not block.language for line in block.text.splitlines()]
    return [line.split(" #")[0].strip() for line in lines]


def runs_here(command: str) -> bool:
    return not command.startswith(tuple(NOT_HERE))


def test_reasons_are_of_commands_that_are_there():
    everywhere = [command for page in PAGES for command in commands(page)]
    assert [beginning for beginning in NOT_HERE if not any(command.startswith(beginning) for command in everywhere)] == []
    assert sum(map(runs_here, everywhere)) > len(everywhere) / 2


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A clone as a stranger has it, with raw data of its own."""
    project = Project(tmp_path / "project", tmp_path / "home")
    project.environment |= {f"GIT_{role}_{key}": "docs" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}
    project.environment["CUDA_VISIBLE_DEVICES"] = ""
    copy_checkout(project.folder)
    (project.folder / "data/raw").mkdir(parents=True)
    random = np.random.default_rng(0)
    with ZipFile(project.folder / "data/raw/mine.zip", "w") as archive:
        for number in range(20):
            with archive.open(f"photos/{'jay' if number % 2 else 'robin'}/{number}.jpg", "w") as file:
                Image.fromarray(random.integers(0, 255, (20, 20, 3), dtype=np.uint8)).save(file, "jpeg")
    project.call("git", "init", "--quiet", "--initial-branch", "main")
    commit(project)
    return project


def commit(project: Project) -> None:
    project.call("git", "add", "--all")
    project.call("git", "commit", "--quiet", "--allow-empty", "--message", "as it is")


def shrink(project: Project) -> None:
    """Edit params.yaml, as README says: two runs as small as those of tests/tiny.yaml, on a dataset of the quickstart's name."""
    two_runs = {"dataset": "translated_digits", "transfer": [], "methods": ["byol", "rsa"], "seeds": [0]}
    params = merged(parsed(TINY.read_text()), {"experiment": two_runs})
    params["datasets"] = {"translated_digits": params["datasets"]["digits"]}
    YAML(typ="safe").dump(params, project.folder / "params.yaml")


def add_images(project: Project) -> None:
    """Add the page's own example of a section `datasets`."""
    (example,) = (block for block in blocks(ROOT / "docs/data.md") if "mine:" in block.text and block.language == "yaml")
    path = project.folder / "params.yaml"
    YAML(typ="safe").dump(merged(parsed(path.read_text()), parsed(example.text)), path)


def show_in_a_terminal(project: Project) -> None:
    """`dvc exp show` keeps to a terminal of 80 columns and begins with the differences."""
    lines = in_terminal(["dvc", "exp", "show"], project, columns=80)
    rows = [line for line in lines if "workspace" in line or "main" in line]
    assert [len(row) <= 80 for row in rows] == [True, True], lines
    assert any(line.split()[:3] == ["Experiment", "Created", "rsa-byol.translated_digits"] for line in lines), lines


def in_terminal(command: list[str], project: Project, columns: int) -> list[str]:
    """Return the lines, without colours, that a terminal of 24 rows shows until `less` is at the end."""
    process, terminal = pty.fork()
    if process == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        os.chdir(project.folder)
        os.execvpe(command[0], command, project.environment | {"TERM": "xterm"})
    shown = b""
    with contextlib.suppress(OSError):  # EIO: the command has ended
        while part := os.read(terminal, 65536):
            shown += part
            if b"(END)" in part:
                os.write(terminal, b"q")
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0, shown
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\r", "", shown.decode()).splitlines()


# These do what a page asks of its reader in words, before or after a command.
BEFORE: dict[str, Callable[[Project], None]] = {"dvc repro shard@mine": add_images}
AFTER: dict[str, Callable[[Project], None]] = {
    "python -m rsa recipe cifar10_small": shrink,
    "dvc exp show": show_in_a_terminal,
    "git add dvc.lock params.yaml": commit,
}


@pytest.mark.slow
def test_commands_run_as_they_stand(project: Project):
    readme, *_ = PAGES
    ran = set[str]()  # what several pages have runs once
    failed = []  # where one fails, what follows from it may fail, too
    for page in PAGES:
        for command in commands(page):
            if command in ran or not runs_here(command):
                continue
            ran.add(command)
            BEFORE.get(command, lambda _: None)(project)
            done = run(project, command)
            if done.returncode:
                failed.append(f"{page.name}: {command}\n{done.stdout}")
            AFTER.get(command, lambda _: None)(project)
        if page != readme:
            for command in WAY_BACK:
                project.call("bash", "-c", command)
    assert not failed, "\n\n".join(failed)
    assert project.call("git", "status", "--porcelain") == ""  # .gitignore knows what commands leave


def run(project: Project, command: str) -> subprocess.CompletedProcess[str]:
    """Run a command with examples for its placeholders; how long it took is shown by `pytest -s`, and after a failure."""
    for word, example in STANDS_FOR.items():
        command = command.replace(word, example)
    pipe, out = subprocess.PIPE, subprocess.STDOUT
    start = time.monotonic()
    done = subprocess.run(
        ["bash", "-c", command], cwd=project.folder, env=project.environment, stdout=pipe, stderr=out, text=True
    )
    print(f"{time.monotonic() - start:.0f} s, exit code {done.returncode}: {command}")
    return done
