"""`python -m rsa.recipes.reference > docs/params.md`: every key of params.yaml, from the comments in recipes/defaults.yaml."""

import json
from collections.abc import Iterator
from typing import Any

from ruamel.yaml import YAML

from rsa.recipes import DEFAULTS, FOLDER
from rsa.recipes.layout import keys
from rsa.recipes.merge import CATALOGUES, Path

HEAD = """# Every key of `params.yaml`

Written by `python -m rsa.recipes.reference > docs/params.md` from the comments of [recipes/defaults.yaml][defaults]. The defaults
are those of RSA's authors for small images; a recipe changes some of them. A key that several entries of a catalogue have
(`datasets`, `methods`, protocols, ...) stands where it comes first.

[defaults]: ../recipes/defaults.yaml
"""
LONGEST = 48  # characters of a default that are shown


def reference() -> str:
    """Return the page: a section and a table for each section of params.yaml."""
    document = YAML().load((FOLDER / f"{DEFAULTS}.yaml").read_text())
    parts = [HEAD]
    for section in document:
        comment = _comment(document, section)
        rows = [f"| `{name}` | {default} | {said} |" for name, default, said in _rows(document[section], (section,))]
        head = f"\n## `{section}`\n" + (f"\n{comment[0].upper()}{comment[1:]}.\n" if comment else "")
        parts.append("\n".join([head, "| key | default | |", "| --- | --- | --- |", *rows, ""]))
    return "".join(parts)


def _rows(values: Any, section: Path) -> Iterator[tuple[str, str, str]]:
    """Yield name, default and comment of each key that has a comment, or a value outside of a catalogue."""
    seen = set()
    for mapping, key, path, _ in keys(values, section):
        comment, value = _comment(mapping, key), mapping[key]
        in_entry = any(path[: len(each)] == each and len(path) > len(each) + 1 for each in CATALOGUES)
        said = (path[len(section) + 1 :], comment)
        if (not comment and (in_entry or isinstance(value, dict))) or (in_entry and said in seen):
            continue
        seen.add(said)
        yield ".".join(path[1:]), _default(value), comment.replace("|", r"\|")


def _comment(mapping: Any, key: str) -> str:
    token = mapping.ca.items.get(key, (None, None, None))[2]
    return token.value.partition("\n")[0].removeprefix("# ") if token else ""


def _default(value: Any) -> str:
    if isinstance(value, dict) and value:
        return ""
    text = json.dumps(value)
    return f"`{text if len(text) <= LONGEST else text[:LONGEST] + ' ...'}`"


if __name__ == "__main__":
    print(reference(), end="")
