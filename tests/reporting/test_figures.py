from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from rsa.params import Params
from rsa.reporting.figures import draw_curves, draw_hard_views, draw_health, draw_schedules, draw_scores, enlarge_views
from rsa.reporting.results import Results, read_scores
from tests.reporting.experiment import write_runs, write_scores


def ink(path: Path) -> int:
    """How many colours a picture has: an empty axis has few."""
    with Image.open(path) as image:
        return len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0))


def curves(tmp_path: Path, p: Params) -> dict[str, dict[int, pd.DataFrame]]:
    runs = write_runs(tmp_path / "runs", p)
    return {m: {s: pd.read_csv(runs / m / f"s{s}" / "curve.csv") for s in p.experiment.seeds} for m in p.experiment.methods}


def test_scores_are_drawn_the_same_to_the_byte(tmp_path: Path, tiny: Params):
    results = Results(read_scores(write_scores(tmp_path / "scores"), tiny).table, tiny.experiment, 0.95)
    for name in ("first.png", "second.png"):
        draw_scores(results, tmp_path / name)
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()
    assert ink(tmp_path / "first.png") > 50


@pytest.mark.parametrize("draw", [draw_curves, draw_health, draw_schedules])
def test_curves_are_drawn_the_same_to_the_byte(tmp_path: Path, tiny: Params, draw):
    drawn = curves(tmp_path, tiny)
    for name in ("first.png", "second.png"):
        draw(drawn, tmp_path / name)
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()
    assert ink(tmp_path / "first.png") > 50


def test_another_curve_is_another_picture(tmp_path: Path, tiny: Params):
    drawn = curves(tmp_path, tiny)
    draw_curves(drawn, tmp_path / "first.png")
    drawn["rsa"][0].loc[10:, "loss"] += 1
    draw_curves(drawn, tmp_path / "second.png")
    assert (tmp_path / "first.png").read_bytes() != (tmp_path / "second.png").read_bytes()


def test_views_are_enlarged_without_smoothing(tmp_path: Path):
    small = np.random.default_rng(0).integers(0, 256, (32, 128, 3), dtype=np.uint8)
    Image.fromarray(small).save(tmp_path / "views.png")
    enlarge_views(tmp_path / "views.png", tmp_path / "large.png")
    with Image.open(tmp_path / "large.png") as image:
        np.testing.assert_array_equal(np.asarray(image), small.repeat(6, 0).repeat(6, 1))


def test_wide_views_stay_as_they_are(tmp_path: Path):
    Image.new("RGB", (2000, 100)).save(tmp_path / "views.png")
    enlarge_views(tmp_path / "views.png", tmp_path / "large.png")
    with Image.open(tmp_path / "large.png") as image:
        assert image.size == (2000, 100)


def test_hard_views_are_drawn_where_a_method_selects(tmp_path: Path):
    steps = pd.DataFrame({"step": range(1, 101), "loss": 1.0})
    hard = steps.assign(**{name: float("nan") for name in ("iou", "iou_all", "color", "color_all")}, score=2.0, score_all=1.5)
    hard.loc[24::25, ["iou", "iou_all", "color", "color_all"]] = [0.2, 0.4, 1.0, 0.5]
    assert not draw_hard_views({"byol": {0: steps}}, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
    assert draw_hard_views({"byol": {0: steps}, "byol_hard": {0: hard, 1: hard}}, tmp_path / "hard.png")
    with Image.open(tmp_path / "hard.png") as image:
        assert len(image.convert("RGB").getcolors(1 << 20)) > 2
