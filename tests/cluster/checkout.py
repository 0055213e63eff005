"""A checkout of this repository with the tiny experiment, of one method and one dataset, as params.yaml."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

from tests.conftest import TINY
from tests.engines.imports import PACKAGES, ROOT
from tests.engines.project import OURS
from tests.engines.toy import dump_yaml, load_yaml

PRETRAIN = "pretrain@byol-0"
OUT = "runs/byol/s0"
FLAGS = (
    "--method",
    "byol",
    "--seed",
    "0",
    "--shards",
    "data/shards/digits/manifest.json",
    "--start",
    "weights/none",
    "--out",
    OUT,
)
FILES = ("Snakefile", "dvc.yaml", ".dvcignore", ".gitignore", "profiles", "requirements.lock")
PLACEHOLDERS = ("weights/none",)


class Checkout:
    """A folder with the project's code; `environment` is what commands in it get, and `patience` seconds to end."""

    patience = 300

    def __init__(self, folder: Path, home: Path, environment: dict[str, str], **changes: dict[str, Any]) -> None:
        self.folder = folder
        folder.mkdir()
        for name in (*PACKAGES, *FILES, *PLACEHOLDERS):
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            copy(ROOT / name, folder / name)
        params = load_yaml(TINY)
        params["experiment"].update(methods=["random", "byol"], seeds=[0], transfer=["digits"])
        del params["datasets"]["photo_tiles"], params["methods"]["rsa"]
        for section, values in changes.items():
            params[section].update(values)
        dump_yaml(params, folder / "params.yaml")
        ours = {name: value for name, value in os.environ.items() if not name.startswith((*OURS, "CUDA_", "MASTER_", "NODE_"))}
        places = {f"DVC_{kind}_DIR": str(home / "dvc") for kind in ("SITE_CACHE", "GLOBAL_CONFIG", "SYSTEM_CONFIG")}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = {**ours, **places, "PATH": path, "XDG_CACHE_HOME": str(home), "OMP_NUM_THREADS": "1", **environment}
        self.call("git", "init", "--quiet")
        self.call("dvc", "init", "--quiet", "--force")

    def edit_runtime(self, **values: Any) -> None:
        """Change values of the section `runtime`."""
        params = load_yaml(self.folder / "params.yaml")
        params["runtime"].update(values)
        dump_yaml(params, self.folder / "params.yaml")

    def call(self, *command: str, **environment: str) -> str:
        """What a command prints; AssertionError where it fails."""
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment | environment, text=True, timeout=self.patience,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == 0, f"{' '.join(command)} exits {done.returncode}:\n{done.stdout}"
        return done.stdout

    def start(self, name: str, *command: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start a command; what it prints goes to NAME.out."""
        with (self.folder / f"{name}.out").open("wb") as out:
            return subprocess.Popen(
                command, cwd=self.folder, env=self.environment | environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )

    def step(self) -> int:
        """Of the newest checkpoint; -1 where there is none."""
        steps = [int(file.stem.removeprefix("step_")) for file in self.folder.glob(".work/pretrain/*/*/step_*.ckpt")]
        return max(steps, default=-1)

    def ranks(self) -> dict[int, psutil.Process]:
        """The processes of the run here, by rank."""
        found = {}
        for process in psutil.process_iter():
            try:
                rank = process.environ().get("RANK")
                if rank is not None and process.cwd() == str(self.folder):
                    found[int(rank)] = process
            except psutil.Error:  # it has just ended
                continue
        return found

    def encoder(self) -> str:
        return hashlib.sha256((self.folder / OUT / "encoder.safetensors").read_bytes()).hexdigest()

    def logs(self) -> str:
        """The ends of everything that was logged."""
        files = [*self.folder.glob("*.out"), *self.folder.glob("logs/slurm/**/*.log")]
        return "\n".join(f"== {file.name}\n" + "\n".join(file.read_text().splitlines()[-40:]) for file in files)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process of ours and all below it."""
    if process.poll() is None:
        below = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        for one in below:
            if one.is_running():
                one.kill()
    process.wait()
