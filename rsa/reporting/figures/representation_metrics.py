"""Label-free metrics of representations, and semantic shift over training, which tests RSA's claim."""

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.lines import Line2D

from rsa.reporting.figures.style import FAINT, WIDTH, Curves, band, column, drawing, legend
from rsa.reporting.figures.training import draw_columns

METRICS = {
    "rankme": "RankMe",
    "lidar": "LiDAR",
    "alpha": "α-ReQ (1 is best)",
    "alignment": "alignment\n(0: views of a sample agree)",
    "uniformity": "uniformity\n(lower: spread out)",
}


def draw_representation_metrics(metrics: Curves, path: Path) -> None:
    """Draw a panel per metric over the share of training, snapshots as points: mean and range over seeds."""
    draw_columns(metrics, METRICS, path, x="progress", marker="o")


def draw_shift(metrics: Curves, curves: Curves, path: Path) -> None:
    """Draw semantic shift, the gap between the losses, and beta over training, one below the other.

    Semantic shift is solid for aggressive and dotted for weak views; the gap is the loss of aggressive pairs less that of weak
    ones. Rows without data are omitted.
    """
    shift = {method: runs for method, runs in metrics.items() if any("shift_aggressive" in run for run in runs.values())}
    timed = {method: {seed: _timed(run) for seed, run in runs.items()} for method, runs in curves.items()}
    gap = {method: runs for method, runs in timed.items() if any("gap" in run for run in runs.values())}
    beta = {method: runs for method, runs in timed.items() if any("beta" in run for run in runs.values())}
    parts = [(name, runs) for name, runs in (("shift", shift), ("gap", gap), ("beta", beta)) if runs]
    places = {method: place for place, method in enumerate(metrics | curves)}
    with drawing(path, WIDTH, 1.7 * len(parts) + 0.7) as figure:
        axes = figure.subplots(len(parts), 1, sharex=True, squeeze=False)[:, 0]
        for axis, (name, methods) in zip(axes, parts, strict=True):
            for method, runs in methods.items():
                if name == "shift":
                    percent: Any = {"marker": "o", "ms": 3.5}
                    band(axis, 100 * column(runs, "shift_aggressive", "progress"), places[method], ls="-", **percent)
                    band(axis, 100 * column(runs, "shift_weak", "progress"), places[method], ls=":", **percent)
                else:
                    band(axis, column(runs, name, "progress"), places[method], ls="-")
        for axis, (name, _) in zip(axes, parts, strict=True):
            if name == "shift":
                axis.set_ylabel("semantic shift\n(% of views)")
                axis.set_ylim(bottom=0)
                kinds = [Line2D([], [], color=FAINT, ls=style) for style in ("-", ":")]
                axis.legend(kinds, ["aggressive views", "weak views"], loc="upper right", ncols=2)
            elif name == "gap":
                axis.set_ylabel("loss of aggressive\n− of weak pairs")
                axis.axhline(0, color=FAINT, lw=0.8)
            else:
                axis.set_ylabel("β")
                axis.set_ylim(bottom=0)
        figure.align_ylabels(axes)
        axes[-1].set_xlabel("share of training")
        axes[-1].set_xlim(-0.01, 1.01)
        numbers = {method: max(len(runs.get(method, {})) for _, runs in parts) for method in places}
        legend(figure, list(places), {method: number for method, number in numbers.items() if number}, kind="solid")


def _timed(curve: pd.DataFrame) -> pd.DataFrame:
    """Add the share of training to each step, and the gap between the losses if both exist."""
    timed = curve.assign(progress=curve["step"] / curve["step"].iloc[-1])
    return timed.assign(gap=curve["aggressive"] - curve["weak"]) if {"aggressive", "weak"} <= set(curve) else timed
