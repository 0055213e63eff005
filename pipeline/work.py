"""Working folders that survive interruption: checkpoints to resume from, and finished results that DVC has not recorded yet.

    .work/STAGE/OUT/KEY/identity.json   params, code, inputs and flags, of which KEY is the digest
    .work/STAGE/OUT/KEY/**/*.ckpt       checkpoints
    .work/STAGE/OUT/KEY/finished/       the result, as links to its files, until a later stage reads it
    .work/STAGE/OUT/KEY/finished.json   the sha256 of each of them

DVC deletes a stage's outputs before it runs it again. So a training that had finished when DVC was killed, or when its cache
was full, would be lost without the second name of its files here.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from rsa.data.files import sha256
from rsa.params.sections import flat

ROOT = Path(".work")


class Work:
    """The working folder for one output of a stage, identified by everything that determines the result."""

    def __init__(self, stage: str, out: Path, identity: dict[str, Any]) -> None:
        self.stage, self.identity = stage, identity
        key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
        self.folder = ROOT / stage / quote(str(out), safe="") / key
        self.about, self.finished, self.digests = (self.folder / name for name in ("identity.json", "finished", "finished.json"))

    def describe_checkpoints(self) -> bool:
        """Return True if there is a checkpoint to resume from; otherwise print why other checkpoints do not match."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.about.write_text(json.dumps(self.identity, indent=1) + "\n")
        if any(self.folder.rglob("*.ckpt")):
            return True
        for other in sorted(self.folder.parent.iterdir()):
            if other != self.folder and any(other.rglob("*.ckpt")):
                try:
                    why = difference(json.loads((other / "identity.json").read_text()), self.identity)
                except (OSError, ValueError):
                    why = "by an older version"
                why = f"the checkpoint in {other} was written {why}"
                print(f"{self.stage}: starts from the beginning: {why}", flush=True)
        return False

    def keep_finished(self, new: Path) -> None:
        """Hard-link the files of the finished result `new` into this folder, and remove its checkpoints."""
        shutil.rmtree(self.finished, ignore_errors=True)
        files = [new] if new.is_file() else [file for file in sorted(new.rglob("*")) if file.is_file()]
        digests = {}
        for file in files:
            name = str(file.relative_to(new.parent))
            (self.finished / name).parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(file, self.finished / name)
            except OSError:  # another file system, or one without hard links; a copy could be too large
                shutil.rmtree(self.folder)
                return
            digests[name] = sha256(file)
        self.digests.write_text(json.dumps(digests))  # after its files: it marks the result as complete
        self._remove_checkpoints()

    def _remove_checkpoints(self) -> None:
        for each in self.folder.iterdir():
            if each not in (self.finished, self.digests, self.about):
                shutil.rmtree(each) if each.is_dir() else each.unlink()

    def take_over(self, new: Path) -> bool:
        """Copy an earlier result with the same identity to `new`, if its files are intact and dvc.lock does not have them.

        Where dvc.lock has them, somebody forces the stage to run again.
        """
        if not is_intact(self.folder):
            return False
        digests = json.loads(self.digests.read_text())
        if self._recorded(digests):
            return False
        for name in digests:
            place = new.parent / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.finished / name, place)
        self._remove_checkpoints()  # of a run that was killed as it finished
        return True

    def _recorded(self, names: Iterable[str]) -> bool:
        """Return whether dvc.lock has the md5 of every file on top of the result."""
        try:
            lock = Path("dvc.lock").read_text()
        except FileNotFoundError:
            return False
        files = [file for name in names if (file := self.finished / name).parent.parent in (self.finished, self.folder)]
        return bool(files) and all(hashlib.md5(file.read_bytes()).hexdigest() in lock for file in files)

    @staticmethod
    def forget_finished(path: Path) -> None:
        """Remove the hard links to the result that contains `path`, and to those that it contains."""
        for digests in ROOT.glob("*/*/*/finished.json"):
            out = Path(unquote(digests.parent.parent.name))
            if path.is_relative_to(out) or out.is_relative_to(path):
                shutil.rmtree(digests.parent, ignore_errors=True)  # another stage may be at it


def is_intact(folder: Path) -> bool:
    """Return True if the working folder has a finished result whose files have the sha256 that was recorded."""
    try:
        digests = json.loads((folder / "finished.json").read_text())
        return all(sha256(folder / "finished" / name) == digest for name, digest in digests.items())
    except (OSError, ValueError):
        return False


def difference(theirs: dict[str, Any], ours: dict[str, Any]) -> str:
    """Describe how `theirs` differs from `ours`, with the values that params have in `theirs`."""
    old, new = flat(theirs), flat(ours)
    keys = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    kinds = [key.partition(".")[2] + (f" {old.get(key)}" if key.startswith("params.") else "") for key in keys]
    return f"with other {', '.join(kinds[:5])}{f' and {len(kinds) - 5} more' if len(kinds) > 5 else ''}"
