"""A copy of the toy project: what the engines do in it, and what they leave."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

PRODUCED = ("data", "runs", "features", "scores", "reports")
DEVICES = ("4", "GPU-7a")  # made up
PATIENCE = 120  # seconds for a stage to be reached, or for a process to end
OURS = ("GIT_", "DVC_", "SNAKEMAKE_", "SLURM_", "PYTEST_")  # variables of whoever started the tests


class Project:
    """A folder with the toy project; `home` stands for everything that the engines write outside of it."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder, self.home = folder, home
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(OURS)} | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "CUDA_VISIBLE_DEVICES": ",".join(DEVICES),
            "DVC_SITE_CACHE_DIR": str(home / "dvc"),
            "DVC_GLOBAL_CONFIG_DIR": str(home / "dvc"),
            "DVC_SYSTEM_CONFIG_DIR": str(home / "dvc"),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "SHELL": "/bin/sh",
            "TMPDIR": str(folder.parent),
            "XDG_CACHE_HOME": str(home),
        }

    def copy(self, folder: Path) -> "Project":
        """The same state elsewhere, with an empty log of runs."""
        shutil.copytree(self.folder, folder, symlinks=True)
        (folder / "ran.log").unlink(missing_ok=True)
        return Project(folder, self.home)

    # ---- what is done in it ----

    def call(self, *command: str, fails: bool = False, **environment: str) -> str:
        """Run a command to its end; what it printed.  AssertionError where it fails (or, if it must fail, does not)."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment | environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert (done.returncode != 0) == fails, f"{' '.join(command)} exits {done.returncode}:\n{done.stdout}"
        return done.stdout

    def dvc(self, *arguments: str, fails: bool = False, **environment: str) -> str:
        return self.call("dvc", *arguments, fails=fails, **environment)

    def snakemake(self, *arguments: str, fails: bool = False, **environment: str) -> str:
        return self.call("snakemake", *arguments, fails=fails, **environment)

    def run(self, engine: str, **options: bool) -> str:
        """Bring everything up to date with one of ENGINES."""
        return self.call(*ENGINES[engine], **options)

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start a command; what it prints goes to the file `printed`."""
        with (self.folder / "printed").open("w") as printed:
            return subprocess.Popen(command, cwd=self.folder, env=self.environment, text=True, stdout=printed, stderr=printed)

    def hold(self, stage: str) -> Callable[[], None]:
        """Let the stage wait when it has begun; returns what lets it go on."""
        (self.folder / "hold").mkdir(exist_ok=True)
        hold = self.folder / "hold" / stage
        hold.touch()
        (self.folder / "hold" / f"{stage}.reached").unlink(missing_ok=True)
        return hold.unlink

    def fail(self, stage: str) -> None:
        """Let the stage fail until `fail` is removed."""
        (self.folder / "fail").mkdir(exist_ok=True)
        (self.folder / "fail" / stage).touch()

    def wait_until_held(self, stage: str, process: subprocess.Popen[str]) -> None:
        """Wait until the stage has begun, which `process` runs."""
        reached = self.folder / "hold" / f"{stage}.reached"
        wait_until(lambda: reached.exists() or process.poll() is not None, f"{stage} has begun")
        assert reached.exists(), (self.folder / "printed").read_text()

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace the first `old` in a file."""
        file = self.folder / name
        text = file.read_text()
        assert old in text, f"{old!r} is not in {name}"
        file.write_text(text.replace(old, new, 1))

    def remove(self, *names: str) -> None:
        for name in names:
            path = self.folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    # ---- what it is ----

    def events(self) -> list[list[str]]:
        """[start or end, stage, devices] of all that ran here since the copy was made, in order."""
        log = self.folder / "ran.log"
        return [line.split(" ") for line in log.read_text().splitlines()] if log.exists() else []

    def ran(self) -> list[str]:
        """Stages that were started here since the copy was made; one that ran twice is there twice."""
        return sorted(stage for event, stage, _ in self.events() if event == "start")

    def tree(self) -> dict[str, bytes]:
        """Every produced file, and dvc.lock."""
        files = [self.folder / "dvc.lock", *(file for top in PRODUCED for file in (self.folder / top).rglob("*"))]
        return {str(file.relative_to(self.folder)): file.read_bytes() for file in files if file.is_file()}

    def cache(self) -> dict[str, bytes]:
        """Every file in DVC's caches."""
        root = self.folder / ".dvc" / "cache"
        return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}

    def lock(self) -> bytes:
        return (self.folder / "dvc.lock").read_bytes()


TELL_ALL = ("--printshellcmds", "--quiet", "host")  # else the profile hides what a job is and asks for
ENGINES = {"dvc": ["dvc", "repro"], "snakemake": ["snakemake", *TELL_ALL]}


def wait_until(true: Callable[[], bool], what: str) -> None:
    patience = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < patience, f"waited {PATIENCE} s in vain until {what}"
        time.sleep(0.02)


def below(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The processes that a process of ours has started, and theirs."""
    return psutil.Process(process.pid).children(recursive=True)


def kill(process: subprocess.Popen[str]) -> None:
    """kill -9 of a process of ours alone: what it has started lives on."""
    process.kill()
    process.wait()


def kill_all(process: subprocess.Popen[str]) -> None:
    """kill -9 of a process of ours and of all below it, as at a power cut."""
    others = below(process)
    kill(process)
    for other in others:
        other.kill()
    psutil.wait_procs(others, PATIENCE)
