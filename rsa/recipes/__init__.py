"""Recipes: each published setting as what it changes in recipes/defaults.yaml, and the complete params.yaml made of both.

`compose` merges (rsa.recipes.merge has the rules), `write` writes the complete document with the comment of every key
(rsa.recipes.layout). Only the written file is read by the pipeline.
"""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError

from rsa.params.section import require_known
from rsa.params.sections import flat
from rsa.recipes.layout import comments_of, dump, laid_out
from rsa.recipes.merge import merge

if TYPE_CHECKING:
    from rsa.params.document import Params

FOLDER = (Path(__file__).parent / "published").resolve()  # a link to the checkout's recipes/, and a copy of it in a wheel
DEFAULTS = "defaults"


def names() -> list[str]:
    """Return the names of all recipes, sorted."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml") if file.stem != DEFAULTS)


def headline(name: str) -> str:
    """Return the first line of the comment that a recipe opens with, which says what it is for."""
    return _head(name).splitlines()[0].removeprefix("# ")


def require_name(name: str) -> None:
    """Raise ValueError, with the nearest names, unless there is such a recipe."""
    require_known("recipe", name, names(), "the name of a file in recipes/")


def compose(name: str) -> CommentedMap:
    """Return the complete, commented document of a recipe. Raises ValueError for an unknown recipe, key or name of an entry."""
    require_name(name)
    try:
        document = merge(_values(DEFAULTS), _values(name))
    except ValueError as why:
        raise ValueError(f"{_file(name)}: {why}") from None
    return laid_out(document, comments_of(_file(DEFAULTS).read_text()))


def text(name: str) -> str:
    """Return the params.yaml of a recipe: the comment that it opens with, then every section."""
    return _head(name) + dump(compose(name))


def write(name: str, path: Path) -> None:
    """Write the params.yaml of a recipe, replacing the file that is there."""
    path.write_text(text(name))


def load_recipe(name: str) -> "Params":
    """Load the recipe as validated params, as if it had been written to params.yaml."""
    from rsa.params.load import load  # imports every method

    with tempfile.TemporaryDirectory() as folder:
        write(name, path := Path(folder) / "params.yaml")
        return load(path)


def is_edited(path: Path) -> bool:
    """Return True if a params.yaml differs from every recipe as `write` writes it."""
    written = path.read_text()
    return not any(written.startswith(_head(name)) and written == text(name) for name in names())


def differences(path: Path, name: str) -> list[str]:
    """Return the dotted keys whose values differ between a params.yaml and a recipe, or that only one of the two has."""
    edited, recipe = flat(_parsed(path)), flat(compose(name))
    return [key for key in recipe | edited if key not in edited or key not in recipe or edited[key] != recipe[key]]


def _file(name: str) -> Path:
    return FOLDER / f"{name}.yaml"


def _head(name: str) -> str:
    """Return the comment that a recipe opens with."""
    lines = _file(name).read_text().splitlines(keepends=True)
    first_other = next(number for number, line in enumerate(lines) if not line.startswith("#"))
    return "".join(lines[:first_other])


def _values(name: str) -> dict[str, Any]:
    values = _parsed(_file(name))
    if not isinstance(values, dict):
        raise ValueError(f"{_file(name)} must hold a mapping, got {values!r}")
    return values


def _parsed(path: Path) -> Any:
    try:
        return YAML(typ="safe", pure=True).load(path.read_text())  # not in C, which deep nesting makes crash
    except YAMLError as why:
        raise ValueError(f"{path} is not valid YAML: {why}") from None
