"""dvc.lock lists stages in the order in which they were first recorded. Jobs that end in another order than DVC's own would
leave another file than `dvc repro` does: nothing but lines that moved, in every diff. So the Snakefile sorts it at its end.
"""

from collections.abc import Iterable
from pathlib import Path

from dvc.lock import make_lock
from dvc.utils.serialize import dump_yaml, load_yaml

LOCK = "dvc.lock"


def recorded(root: Path = Path()) -> list[str]:
    """Names of the stages in dvc.lock, in its order."""
    path = root / LOCK
    return list(load_yaml(str(path)).get("stages", {})) if path.exists() else []


def restore_order(before: list[str], plan: Iterable[str], root: Path = Path()) -> None:
    """Leave dvc.lock as `dvc repro` would: what was recorded `before` keeps its place, then what is new as in `plan`."""
    place = {name: number for number, name in enumerate(dict.fromkeys([*before, *plan]))}
    path, new = root / LOCK, root / ".dvc" / "tmp" / LOCK
    with make_lock(str(root / ".dvc" / "tmp" / "lock"), wait=True):
        now = recorded(root)
        ordered = sorted(now, key=lambda name: place.get(name, len(place)))
        if ordered != now:
            document = load_yaml(str(path))
            document["stages"] = {name: document["stages"][name] for name in ordered}
            dump_yaml(str(new), document)
            new.replace(path)  # whole or not at all
