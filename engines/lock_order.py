"""Keep the order of stages in dvc.lock.

DVC lists stages in the order in which they were first recorded. Parallel jobs end in another order, which would only move
lines in every diff, so the Snakefile sorts the file at its end. Until then the order of the beginning lies in a file of its
own: dvc.lock has lost it when a run that was killed is continued.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from dvc.lock import make_lock
from dvc.utils.serialize import dump_yaml, load_yaml

LOCK = "dvc.lock"
ORDER = ".dvc/tmp/order.json"  # names of stages, while a run goes on


def recorded(root: Path = Path()) -> list[str]:
    """Return the names of the stages in dvc.lock in file order."""
    path = root / LOCK
    return list(load_yaml(str(path)).get("stages", {})) if path.exists() else []


def remember_order(root: Path = Path()) -> None:
    """Write down the order at the beginning of a run, unless a killed run has left it."""
    path = root / ORDER
    if not path.exists():
        new = path.with_suffix(".partial")
        new.write_text(json.dumps(recorded(root)))
        new.replace(path)  # atomic


def restore_order(plan: Iterable[str], root: Path = Path()) -> None:
    """Sort dvc.lock as `dvc repro` would: stages recorded at the beginning keep their order, others follow in that of `plan`."""
    if not (root / ORDER).exists():  # no job was started
        return
    remembered = json.loads((root / ORDER).read_text())
    place = {name: number for number, name in enumerate(dict.fromkeys([*remembered, *plan]))}
    path, new = root / LOCK, root / ".dvc" / "tmp" / LOCK
    with make_lock(str(root / ".dvc" / "tmp" / "lock"), wait=True):
        now = recorded(root)
        ordered = sorted(now, key=lambda name: place.get(name, len(place)))
        if ordered != now:
            document = load_yaml(str(path))
            document["stages"] = {name: document["stages"][name] for name in ordered}
            dump_yaml(str(new), document)
            new.replace(path)  # atomic
    (root / ORDER).unlink()
