from pathlib import Path

import pandas as pd
import pytest

from rsa.reporting.figures.representation_metrics import _timed, draw_representation_metrics, draw_shift
from tests.reporting.figures.conftest import Texts
from tests.reporting.figures.recordings import curve, metrics

SHIFT, GAP = "semantic shift", "loss of aggressive"


def test_the_gap_is_the_aggressive_loss_less_the_weak_one_over_the_share_of_training():
    table = pd.DataFrame({"step": [1, 2, 4], "aggressive": [3.0, 2.0, 1.0], "weak": [1.0, 1.5, 1.25]})
    got = _timed(table)
    assert got["gap"].tolist() == pytest.approx([2.0, 0.5, -0.25])
    assert got["progress"].tolist() == [0.25, 0.5, 1.0]
    assert "gap" not in _timed(table[["step", "weak"]])


def test_one_axis_of_time_with_a_row_for_each_that_there_is(tmp_path: Path, texts: Texts):
    curves = {"byol": {0: curve("byol", 0, 0)}, "rsa": {0: curve("rsa", 1, 0)}}
    measured = {"byol": {0: metrics(0, 0)}, "rsa": {0: metrics(1, 0)}}
    draw_shift(measured, curves, tmp_path / "all.svg")
    found = texts(tmp_path / "all.svg")
    assert found.count("share of training") == 1
    assert {SHIFT, GAP, "β"} <= set(found)
    assert found.index(SHIFT) < found.index(GAP) < found.index("β")
    draw_shift(measured, {"byol": curves["byol"]}, tmp_path / "shift.svg")
    assert not {GAP, "β"} & set(texts(tmp_path / "shift.svg"))
    draw_shift({}, curves, tmp_path / "losses.svg")
    found = texts(tmp_path / "losses.svg")
    assert SHIFT not in found
    assert "rsa (1 seed)" in found
    assert "byol (1 seed)" not in found  # it has nothing to show here


def test_shares_are_drawn_in_percent(tmp_path: Path, texts: Texts):
    high = metrics(0, 0).assign(shift_aggressive=0.8)
    draw_shift({"rsa": {0: high}}, {"rsa": {0: curve("rsa", 0, 0)}}, tmp_path / "shift.svg")
    assert "80" in texts(tmp_path / "shift.svg")


def test_metrics_have_a_panel_for_each_that_was_measured(tmp_path: Path, texts: Texts):
    draw_representation_metrics({"byol": {0: metrics(0, 0).drop(columns="lidar")}}, tmp_path / "representation.svg")
    found = texts(tmp_path / "representation.svg")
    assert "RankMe" in found
    assert "LiDAR" not in found
    assert found.count("share of training") == 4
