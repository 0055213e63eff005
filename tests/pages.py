"""README, CONTRIBUTING and docs as pages of blocks, and copies of the checkout in which they are followed."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML

from tests.engines.imports import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TRACKED = subprocess.run(
    ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
).stdout.split("\0")[:-1]
FENCE = re.compile(r'^```(\w*)(?: title="([^"\n]*)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block: its language, the file that it is for, and its text."""

    language: str
    title: str
    text: str


def blocks(page: Path) -> list[Block]:
    return [Block(*found) for found in FENCE.findall(page.read_text())]


def titled(language: str) -> list[Block]:
    """The blocks of all pages that are the text of a file."""
    return [block for page in PAGES for block in blocks(page) if block.language == language and block.title]


def dvc_entry() -> str:
    """The entry in dvc.yaml of the stage that a page adds."""
    (entry,) = (block.text for block in titled("yaml") if block.title == "dvc.yaml")
    return entry


def merged(base: Any, change: Any) -> Any:
    if not isinstance(base, dict) or not isinstance(change, dict):
        return change
    return base | {key: merged(base.get(key), value) for key, value in change.items()}


def parsed(text: str) -> Any:
    return YAML(typ="safe").load(text)


def copy_checkout(folder: Path) -> None:
    """Copy what git has of this checkout, as a clone has it."""
    for name in TRACKED:
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
