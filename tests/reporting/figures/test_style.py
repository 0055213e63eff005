import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsa.reporting.figures import style
from rsa.reporting.figures.style import COLORS, DARK, INK, PAPER, POINTS, SMOOTH, arranged, column, drawing, thinned


@given(st.integers(1, 60), st.integers(1, 6))
def test_panels_fill_rows_evenly(count: int, per_row: int):
    rows, columns = arranged(count, per_row)
    assert columns <= per_row
    assert (rows - 1) * columns < count <= rows * columns


def test_every_color_that_is_drawn_has_a_dark_one_in_the_file(tmp_path: Path):
    with drawing(tmp_path / "figure.svg", 3, 2) as figure:
        axis = figure.subplots()
        for place, color in enumerate(COLORS):
            axis.plot([0, 1], [place, place], color=color)
            axis.plot([0.5], [place], "o", color=color, mec=PAPER)
    svg = (tmp_path / "figure.svg").read_text()
    ElementTree.fromstring(svg)
    rules = dict(re.findall(r'\[style\*="((?:fill|stroke): #\w+)"\]\{[^:]+:(#\w+)!important\}', svg))
    drawn = set(re.findall(r'style="[^"]*?((?:fill|stroke): #[0-9a-f]{6})', svg.partition("</style>")[2]))
    assert {f"fill: {PAPER}", f"fill: {INK}", f"stroke: {COLORS[0]}"} <= drawn
    unthemed = {part for part in drawn if part not in rules and part.partition(" ")[2] not in (COLORS[4], "#000000")}
    assert unthemed == set()  # orange is bright enough on both
    assert all(rules[part] == DARK[part.partition(" ")[2]] for part in drawn & rules.keys())


def contrast(one: str, other: str) -> float:
    """WCAG 2's ratio."""

    def luminance(color: str) -> float:
        channels = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        return float(
            np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]
        )

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_text_and_lines_stand_out_on_both_backgrounds():
    for text in (INK, style.FAINT):
        assert contrast(text, PAPER) > 4.5
        assert contrast(DARK[text], DARK[PAPER]) > 4.5
    assert min(contrast(DARK.get(color, color), DARK[PAPER]) for color in COLORS) > 4.5
    assert min(contrast(color, PAPER) for color in COLORS) > 2  # the brightest of Okabe and Ito's


def test_a_file_says_nothing_of_when_and_by_what_it_was_drawn(tmp_path: Path):
    with drawing(tmp_path / "figure.svg", 3, 2) as figure:
        figure.subplots().plot([0, 1])
    assert "dc:date" not in (tmp_path / "figure.svg").read_text()


@given(st.integers(1, 3 * POINTS))
def test_thinned_lines_keep_their_ends(length: int):
    table = pd.DataFrame({"value": np.arange(length)})
    kept = thinned(table)["value"]
    assert len(kept) == min(length, POINTS)
    assert (kept.iloc[0], kept.iloc[-1]) == (0, length - 1)


def test_columns_are_smoothed_only_where_they_are_long():
    long = pd.DataFrame({"step": range(20 * SMOOTH), "loss": np.arange(20 * SMOOTH, dtype=float)})
    got = column({0: long, 1: long[["step"]]}, "loss")
    assert list(got) == [0]  # seed 1 has none
    assert got[0].iloc[-1] == pytest.approx(20 * SMOOTH - 1 - (SMOOTH - 1) / 2)
    assert column({0: long.iloc[:10]}, "loss")[0].iloc[-1] == 9
