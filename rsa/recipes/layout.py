"""Layout of params.yaml: every key on a line, with its comment from recipes/defaults.yaml.

The text is as DVC dumps a params.yaml that it has edited (dvc.utils.serialize, `modify_yaml`), so that its edits change the
lines of the edited values alone. Hence null is written as nothing.
"""

from collections.abc import Iterator
from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from rsa.recipes.merge import CATALOGUES, Path, Values, kind

COLUMN = 32  # of comments
WIDTH = 80  # ruamel.yaml breaks a longer list or mapping in braces, and leaves blanks at the ends of its lines

Comments = dict[Path, str]


def comments_of(defaults: str) -> Comments:
    """Return the comment beside each key of recipes/defaults.yaml; the first, if several entries of a catalogue have the key."""
    comments: Comments = {}
    for mapping, key, path, entry_kind in keys(YAML().load(defaults)):
        if token := mapping.ca.items.get(key, (None, None, None))[2]:
            for place in _places(path, entry_kind):
                comments.setdefault(place, token.value.partition("\n")[0].removeprefix("# "))
    return comments


def laid_out(document: Values, comments: Comments) -> CommentedMap:
    """Return the document with the comments beside its keys."""
    return _mapping(document, (), None, comments)


def dump(document: CommentedMap) -> str:
    """Return the document's text, with an empty line before each section."""
    lines = _dumped(document, WIDTH).splitlines(keepends=True)
    return "".join(f"\n{line}" if line[0].isalpha() else line for line in lines)


def keys(node: Values, path: Path = (), entry_kind: str | None = None) -> Iterator[tuple[Any, str, Path, str | None]]:
    """Yield, for every key, the mapping that has it, the key, its path, and the kind of the entry that it is in."""
    for key, value in node.items():
        here = (*path, key)
        yield node, key, here, entry_kind
        if isinstance(value, dict):
            yield from keys(value, here, _entry_kind(here, value, entry_kind))


def _entry_kind(path: Path, value: Any, outer: str | None) -> str | None:
    is_entry = path[:-1] in CATALOGUES and isinstance(value, dict)
    return kind(value) if is_entry else outer


def _places(path: Path, entry_kind: str | None) -> list[Path]:
    """Return where `Comments` has the comment of a key: for a key of an entry, under its kind, else under the whole catalogue."""
    for catalogue in CATALOGUES:
        inside = path[len(catalogue) + 1 :]
        if inside and path[: len(catalogue)] == catalogue:
            return [(*catalogue, str(entry_kind), *inside), (*catalogue, "*", *inside)]
    return [path]


def _comment(path: Path, entry_kind: str | None, comments: Comments) -> str | None:
    places = _places(path, entry_kind)
    places += [("optional", *path[start:]) for start in range(len(path) - 1)]
    return next((comments[place] for place in places if place in comments), None)


def _mapping(values: Values, path: Path, entry_kind: str | None, comments: Comments) -> CommentedMap:
    mapping = CommentedMap()
    for key, value in values.items():
        here = (*path, key)
        mapping[key] = _node(value, here, _entry_kind(here, value, entry_kind), comments)
        if comment := _comment(here, entry_kind, comments):
            column = max(COLUMN, _width(here, mapping[key]) + 2)
            mapping.yaml_add_eol_comment(comment, key, column)
    return mapping


def _node(value: Any, path: Path, entry_kind: str | None, comments: Comments) -> Any:
    node: CommentedMap | CommentedSeq
    if isinstance(value, dict):
        node = _mapping(value, path, entry_kind, comments)
    elif isinstance(value, list):
        node = CommentedSeq(_node(item, (*path, "-"), entry_kind, comments) for item in value)
    else:
        return value
    if len(path) > 1 and path not in CATALOGUES and not _commented(node):  # in braces where it fits a line and has no comments
        node.fa.set_flow_style()
        if _width(path, node) > WIDTH:
            node.fa.set_block_style()
    return node


def _commented(node: Any) -> bool:
    """Return True if a key in `node`, however deep, has a comment."""
    if isinstance(node, CommentedMap):
        return bool(node.ca.items) or any(map(_commented, node.values()))
    return isinstance(node, CommentedSeq) and any(map(_commented, node))


def _width(path: Path, value: Any) -> int:
    """Return the length of a key's line."""
    line = _dumped(CommentedMap({path[-1]: value}), width=4096).partition("\n")[0]
    return 2 * (len(path) - 1) + len(line)


def _dumped(document: CommentedMap, width: int) -> str:
    yaml = YAML()
    yaml.default_flow_style = False  # as DVC sets it
    yaml.width = width
    stream = StringIO()
    yaml.dump(document, stream)
    return stream.getvalue()
