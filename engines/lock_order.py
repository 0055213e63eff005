"""Restore the order of stages in dvc.lock.

DVC lists stages in the order in which they were first recorded. Parallel jobs end in another order, which would move lines in
every diff, so the Snakefile sorts the file when a run ends.
"""

from collections.abc import Iterable
from pathlib import Path

from dvc.lock import make_lock
from dvc.utils.serialize import dump_yaml, load_yaml

LOCK = "dvc.lock"


def recorded(root: Path = Path()) -> list[str]:
    """Return the names of the stages in dvc.lock in file order."""
    path = root / LOCK
    return list(load_yaml(str(path)).get("stages", {})) if path.exists() else []


def restore_order(before: list[str], plan: Iterable[str], root: Path = Path()) -> None:
    """Sort dvc.lock as `dvc repro` would: stages recorded `before` keep their order, new ones follow in the order of `plan`."""
    place = {name: number for number, name in enumerate(dict.fromkeys([*before, *plan]))}
    path, new = root / LOCK, root / ".dvc" / "tmp" / LOCK
    with make_lock(str(root / ".dvc" / "tmp" / "lock"), wait=True):
        now = recorded(root)
        ordered = sorted(now, key=lambda name: place.get(name, len(place)))
        if ordered != now:
            document = load_yaml(str(path))
            document["stages"] = {name: document["stages"][name] for name in ordered}
            dump_yaml(str(new), document)
            new.replace(path)  # atomic
