"""Merging of a recipe into the defaults.

Mappings merge key by key; a number, word or list replaces the default. A mapping replaces the default as a whole where it is
of another kind (an optimiser of another `name`, a schedule of another `schedule`), since other kinds have other keys, and
where keys are free: `backbone_args`, and what a dataset's source takes as a split. A mapping in the place of a null changes
the one of that name in `optional`.

A catalogue maps names to entries. A recipe picks entries by a list of names, or by a mapping from names to changes. An entry
may start from another one, `like: NAME`: from that of the recipe where the recipe has one of that name, otherwise from that of
the defaults. A name that the defaults do not have is a complete entry. Of `methods` and `datasets` the result has those that
the recipe names or its experiment uses; of the other catalogues those that the recipe names.
"""

from typing import Any

from rsa.params.section import nearest, require_known

Path = tuple[str, ...]
Values = dict[str, Any]

CATALOGUES: tuple[Path, ...] = (
    ("datasets",),
    ("methods",),
    ("probe", "protocols"),
    ("linear", "protocols"),
    ("detection",),
    ("robustness",),
)
KINDS = ("source", "method", "classifier", "weights", "schedule", "name", "format")  # a mapping's first key, if it says its kind


def merge(defaults: Values, recipe: Values) -> Values:
    """Return the complete document; raise ValueError, with the nearest known name, for a key or entry not in the defaults."""
    defaults = dict(defaults)
    optional = defaults.pop("optional")
    for path in CATALOGUES:
        _replace(defaults, path, _entries({}, _at(defaults, path), path, optional))
    document = _joined(defaults, recipe, (), optional)
    for path, used in _used(document).items():
        changes = _by_name(_at(recipe, path), path)
        changes = {name: changes.get(name) for name in used} | changes
        _replace(document, path, _entries(_at(defaults, path), changes, path, optional))
    return document


def kind(values: Values) -> str | None:
    """Return the kind of a mapping, which its first key determines; None if all kinds have the same keys."""
    first = next(iter(values), None)
    return str(values[first]) if first in KINDS else None


def _at(document: Any, path: Path) -> Any:
    """Return the value at a path, or None."""
    for key in path:
        document = document.get(key) if isinstance(document, dict) else None
    return document


def _joined(base: Values, change: Values, path: Path, optional: Values) -> Values:
    """Merge two mappings key by key."""
    for key in change:
        if key not in base:
            raise ValueError(f"{_dotted(path, key)} is not a known key{nearest(str(key), base)}")
    return {key: _merged(value, change[key], (*path, key), optional) if key in change else value for key, value in base.items()}


def _merged(base: Any, change: Any, path: Path, optional: Values) -> Any:
    if path in CATALOGUES:
        return base  # `merge` picks the entries afterwards
    if base is None and isinstance(change, dict):
        base = optional.get(path[-1])
    for expected, what in ((dict, "mapping"), (list, "list")):
        if isinstance(base, expected) and not isinstance(change, expected):
            raise ValueError(f"{_dotted(path)} must be a {what}, got {change!r}")
    if not isinstance(base, dict) or _replaces(base, change, path):
        return change
    return _joined(base, change, path, optional)


def _replaces(base: Values, change: Values, path: Path) -> bool:
    free = not base or (path[0] == "datasets" and len(path) == 3)
    return free or kind(base) != kind({key: change.get(key, value) for key, value in base.items()})


def _used(document: Values) -> dict[Path, list[str]]:
    """Collect, for each catalogue, the names of entries that the rest of the document uses."""
    experiment = document["experiment"]
    datasets = [experiment["dataset"], *experiment["transfer"], *document["linear"]["datasets"]]
    datasets += document["finetune"]["datasets"]
    used: dict[Path, list[str]] = {("datasets",): datasets, ("methods",): experiment["methods"]}
    return {path: used.get(path, []) for path in CATALOGUES}


def _by_name(picked: Any, path: Path) -> dict[str, Any]:
    """Normalise a recipe's section of a catalogue to a mapping from names to changes."""
    if isinstance(picked, list):
        return dict.fromkeys(picked)
    if picked is None or isinstance(picked, dict):
        return picked or {}
    raise ValueError(f"{_dotted(path)} must be a list of names, or a mapping from names to changes, got {picked!r}")


def _entries(known: Values, changes: dict[str, Any], path: Path, optional: Values) -> Values:
    return {name: _entry(name, known, changes, path, optional) for name in changes}


def _entry(name: str, known: Values, changes: dict[str, Any], path: Path, optional: Values, asked: Path = ()) -> Any:
    """Return an entry of a catalogue: the known one of its name, or the one that it is `like`, with its changes."""
    change = {} if changes[name] is None else changes[name]
    if not isinstance(change, dict):
        raise ValueError(f"{_dotted(path, name)} must be a mapping, got {change!r}")
    if name in asked:
        raise ValueError(f"{_dotted(path, name)} must not be like itself, got {' like '.join([*asked, name])}")
    start = change.get("like")
    own = {key: value for key, value in change.items() if key != "like"}
    if start is None:
        _require_entry(name, known, own, path)
        return _merged(known[name], own, (*path, name), optional) if name in known else own
    if start in changes and start != name:
        base = _entry(start, known, changes, path, optional, (*asked, name))
    else:
        require_known(f"{_dotted(path, name)}.like", start, known, "the name of an entry")
        base = known[start]
    if not known:  # among the defaults, where new keys are what makes the entry another one
        base = base | {key: None for key in own if key not in base}
    return _joined(base, own, (*path, name), optional)


def _require_entry(name: str, known: Values, own: Values, path: Path) -> None:
    """Raise ValueError for an unknown entry, unless it is complete, that is, has the first key of the known entries."""
    begins = next((next(iter(entry)) for entry in known.values()), None)
    if known and begins not in own:
        what = f"names of entries in recipes/defaults.yaml, or complete entries (with `{begins}`)"
        require_known(_dotted(path), name, known, what)


def _replace(document: Values, path: Path, value: Any) -> None:
    """Put a value at a path, in mappings that are the document's own."""
    *above, last = path
    for key in above:
        document[key] = document = dict(document[key])
    document[last] = value


def _dotted(path: Path, *keys: object) -> str:
    return ".".join(map(str, (*path, *keys)))
