"""A project with a single stage, in a folder of its own: its code, params and input can be edited while it runs."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from rsa.fingerprint import fingerprint
from tests.conftest import TINY
from tests.engines.imports import ROOT, closure

Run = subprocess.Popen[str]
RESULT = "a source 1 0.9 1"  # what the stage writes if nothing has been edited


class Project:
    def __init__(self, root: Path) -> None:
        self.root, self.runs = root, list[Run]()
        for name in closure("pipeline.stage", "rsa.params.pretrain"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, root / name)
        (root / "rsa/methods").mkdir()
        for name in ("hidden", "methods/__init__", "methods/byol", "methods/rsa"):
            (root / f"rsa/{name}.py").write_text('"""Code."""\n\nVERSION = 1\n')
        shutil.copy(Path(__file__).with_name("toy.py"), root / "pipeline/toy.py")
        shutil.copy(TINY, root / "params.yaml")
        (root / "source.txt").write_text("a source")

    def write_code(self) -> None:
        """Do what stage `code` does."""
        (self.root / "code/toy").mkdir(parents=True, exist_ok=True)
        for method in ("byol", "rsa"):
            lines = fingerprint("pipeline.toy", f"rsa.methods.{method}", root=self.root)
            (self.root / "code/toy" / method).write_text(lines)

    def start(self, act: str = "nothing", out: str = "out", **flags: str) -> Run:
        given = {"method": "byol", "count": "1", "source": "source.txt", "act": act, "out": out, **flags}
        self.write_code()
        return self.python("-m", "pipeline.toy", *(part for key, value in given.items() for part in (f"--{key}", value)))

    def python(self, *arguments: str) -> Run:
        pipe = subprocess.PIPE
        run = subprocess.Popen(
            [sys.executable, *arguments], cwd=self.root, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env={"PATH": ""}
        )
        self.runs.append(run)
        return run

    def hold(self, **flags: str) -> Run:
        """A run that is in the middle of its stage when this returns; `end` lets it go on."""
        run = self.start("hold", **flags)
        assert run.stdout is not None
        assert run.stdout.readline() == "holding\n", run.communicate()[1]
        return run

    def stop(self) -> None:
        """End what a failed test has left running."""
        for run in self.runs:
            if run.poll() is None:
                run.kill()
            run.communicate(timeout=60)

    def values(self) -> dict[str, Any]:
        """The document in params.yaml."""
        return YAML(typ="safe").load(self.root / "params.yaml")

    def edit(self, dotted: str, value: object) -> None:
        document = self.values()
        *sections, key = dotted.split(".")
        section = document
        for name in sections:
            section = section[name]
        section[key] = value
        YAML(typ="safe").dump(document, self.root / "params.yaml")

    def files(self) -> dict[str, str]:
        """What lies where the stage writes."""
        names = ("out", ".out.partial", "out.json", ".out.json.partial")
        found = [file for name in names for file in [self.root / name, *(self.root / name).rglob("*")] if file.is_file()]
        return {str(file.relative_to(self.root)): file.read_text() for file in found}


def end(run: Run) -> tuple[int, str]:
    """Exit code and stderr."""
    _, stderr = run.communicate("\n", timeout=60)
    return run.returncode, stderr
