"""Scores of every seed, and scores against what they cost."""

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from rsa.reporting.figures.style import FAINT, MARKERS, PAPER, WIDTH, arranged, color, drawing, legend, panels

METRICS = {"top1": "top-1 (%)", "mean_per_class": "mean per class (%)"}
SPREAD = 0.3  # rows, from the first to the last seed of a method


def draw_scores(scores: pd.DataFrame, controls: list[str], methods: list[str], path: Path) -> None:
    """Draw a panel per task with a row per control and method: a point per seed, a bar for the mean, and its number.

    `scores` are rows of method, seed, dataset, task, metric, value. A grey line joins the same seed of all methods, as
    comparisons are paired; controls continue as dotted lines.
    """
    rows = [name for name in (*controls, *methods) if name in set(scores["method"])]
    tasks = _tasks(scores)
    number, columns = arranged(len(tasks), _per_row(rows))
    with drawing(path, WIDTH, number * (0.75 + 0.23 * len(rows)) + 0.15) as figure:
        for place, (axis, (dataset, task)) in enumerate(zip(panels(figure, len(tasks), _per_row(rows)), tasks, strict=True)):
            of_task = scores[(scores["dataset"] == dataset) & (scores["task"] == task)]
            _panel(axis, of_task, rows, methods)
            axis.set_title(f"{dataset}\n{task}")
            axis.set_xlabel(_metric(of_task))
            axis.set_yticks(range(len(rows)), rows if place % columns == 0 else [""] * len(rows))


def _panel(axis: Axes, scores: pd.DataFrame, rows: list[str], methods: list[str]) -> None:
    table = scores.pivot_table(index="seed", columns="method", values="value")
    offsets = {seed: SPREAD * (i / max(1, len(table) - 1) - 0.5) if len(table) > 1 else 0.0 for i, seed in enumerate(table.index)}
    for seed, values in table.iterrows():
        shared = [(values[name], rows.index(name) + offsets[seed]) for name in methods if name in values.dropna()]
        axis.plot([x for x, _ in shared], [y for _, y in shared], color=FAINT, lw=0.6, alpha=0.7, zorder=1)
    for row, name in enumerate(rows):
        if name not in table:
            axis.text(0.5, row, "no score", transform=axis.get_yaxis_transform(), color=FAINT, ha="center", va="center", size=8)
            continue
        values = table[name].dropna()
        shade = color(methods.index(name)) if name in methods else FAINT
        axis.plot(values, [row + offsets[seed] for seed in values.index], "o", ms=4, mec=PAPER, mew=0.5, color=shade, zorder=3)
        axis.plot([values.mean()] * 2, [row - 0.36, row + 0.36], color=shade, lw=2, solid_capstyle="butt", zorder=2)
        text = axis.annotate(f"{values.mean():.1f}", (values.max(), row), (6, 0), textcoords="offset points", va="center", size=8)
        text.set_bbox({"facecolor": PAPER, "edgecolor": "none", "pad": 0.8})  # lines behind the number stay behind it
        if name not in methods:
            axis.axvline(values.mean(), color=FAINT, ls=":", lw=0.9, zorder=0)
    axis.set_ylim(len(rows) - 0.45, -0.55)
    axis.grid(visible=False, axis="y")
    axis.tick_params(axis="y", length=0)
    axis.margins(x=0.08)
    left, right = axis.get_xlim()
    axis.set_xlim(left, right + 0.35 * (right - left))  # room for the numbers
    axis.locator_params(axis="x", nbins=4)


def draw_cost(scores: pd.DataFrame, costs: dict[str, dict[int, float]], methods: list[str], unit: str, path: Path) -> None:
    """Draw scores against costs in a panel per task: for every method a small point per seed and a large one for the mean.

    `costs` are method -> seed -> cost of pretraining in `unit`.
    """
    tasks = _tasks(scores)
    rows, _ = arranged(len(tasks), 4)
    with drawing(path, WIDTH, 2.3 * rows + 0.35) as figure:
        for axis, (dataset, task) in zip(panels(figure, len(tasks), 4), tasks, strict=True):
            of_task = scores[(scores["dataset"] == dataset) & (scores["task"] == task)]
            for place, method in enumerate(methods):
                values = of_task[of_task["method"] == method].set_index("seed")["value"]
                pairs = [(costs[method][seed], value) for seed, value in values.items() if seed in costs.get(method, {})]
                if pairs:
                    points = pd.DataFrame(pairs, columns=["cost", "score"])
                    style: Any = {"color": color(place), "marker": MARKERS[place % len(MARKERS)], "ls": ""}
                    axis.plot(points["cost"], points["score"], **style, ms=3.5, alpha=0.6, mew=0)
                    axis.plot([points["cost"].mean()], [points["score"].mean()], **style, ms=8, mec=PAPER, mew=0.8)
            axis.set_title(f"{dataset}\n{task}")
            axis.set_xlabel(unit)
            axis.set_ylabel(_metric(of_task))
            axis.set_xlim(0, 1.12 * max(cost for runs in costs.values() for cost in runs.values()))
            axis.locator_params(nbins=4)
        legend(figure, methods, {method: len(runs) for method, runs in costs.items()}, kind="points")


def _tasks(scores: pd.DataFrame) -> list[tuple[str, str]]:
    return list(dict.fromkeys(zip(scores["dataset"], scores["task"], strict=True)))


def _metric(scores: pd.DataFrame) -> str:
    names = scores["metric"].unique()
    return " / ".join(METRICS.get(name, str(name)) for name in names)


def _per_row(rows: list[str]) -> int:
    """Return the number of panels per row, which is smaller for long names."""
    return 5 if max(map(len, rows)) <= 14 else 4
