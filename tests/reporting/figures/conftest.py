"""SVG files that hold their text as text, to be read."""

from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from rsa.reporting.figures import style

Texts = Callable[[Path], list[str]]


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> Texts:
    """The texts of a figure that was drawn in the test."""
    monkeypatch.setitem(style.STYLE, "svg.fonttype", "none")

    def read(path: Path) -> list[str]:
        found = ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")
        return ["".join(element.itertext()) for element in found]

    return read
