"""Quarantine files truncated by a killed DVC, any of which would make every later DVC command fail.

Nothing is lost: `.dvc/tmp/rwlock` lists only running processes, and the entries of dvc.lock are restored from DVC's run cache.
The Snakefile runs this first; run `python -m engines.repair` by hand if a manual `dvc` command fails.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

from dvc.lock import make_lock
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from dvc.utils.serialize import YAMLFileCorruptedError, load_yaml
from voluptuous import Invalid


def repair(root: Path = Path()) -> list[Path]:
    """Move each unreadable file to `NAME.cut` with a message; return the files moved."""
    tmp = root / ".dvc" / "tmp"
    tmp.mkdir(parents=True, exist_ok=True)  # a fresh clone has none
    moved = []
    for file, guard, read in (
        (tmp / "rwlock", tmp / "rwlock.lock", _read_json),
        (root / "dvc.lock", tmp / "lock", _read_lock),
    ):
        with make_lock(str(guard), wait=True):
            if file.exists() and (why := read(file)):
                cut = file.with_name(file.name + ".cut")
                file.replace(cut)
                moved.append(file)
                print(f"engines.repair: {file} was cut off by a killed run ({why}); moved to {cut}", file=sys.stderr)
    return moved


Read = Callable[[Path], str]  # returns why a file is unreadable, or ""


def _read_json(file: Path) -> str:
    try:
        json.loads(file.read_text())
    except ValueError as why:
        return str(why)
    return ""


def _read_lock(file: Path) -> str:
    try:
        COMPILED_LOCKFILE_SCHEMA(load_yaml(str(file)))
    except (YAMLFileCorruptedError, Invalid) as why:
        return str(why).splitlines()[0]
    # a truncated digest is valid YAML, but DVC would run the stage again instead of using its run cache
    return "" if file.read_bytes().endswith(b"\n") else "truncated: no trailing newline"


if __name__ == "__main__":
    repair()
