"""Curves that the runs recorded at every step: loss, schedules, and collapse metrics of the embeddings."""

from pathlib import Path

from rsa.reporting.figures.style import (
    WIDTH,
    Curves,
    arranged,
    band,
    color,
    column,
    drawing,
    legend,
    panels,
    steps_below,
)
from rsa.reporting.numbers import counted

SCHEDULES = {"lr": "learning rate", "tau": r"$\tau$ (of the target network)", "beta": r"$\beta$ (of aggressive pairs)"}
HEALTH = {
    "embedding_std": "std of a dimension × √P\n(0 collapsed, 1 isotropic)",
    "effective_rank": "effective rank\n(1 collapsed)",
    "uniformity": "uniformity\n(0 collapsed)",
}

ONLINE = {
    "online_knn": "online kNN, top-1 in %\n(held-out training images)",
    "online_linear": "online linear, top-1 in %\n(held-out training images)",
}


def draw_losses(curves: Curves, path: Path) -> None:
    """Draw a panel per method, since losses of different methods have different scales: mean and range over seeds."""
    shown = [(place, method, runs) for place, (method, runs) in enumerate(curves.items()) if runs]
    rows, columns = arranged(len(shown), 4)
    with drawing(path, WIDTH, 2.2 * rows + (0.5 if columns == 1 else 0)) as figure:
        for number, (axis, (place, method, runs)) in enumerate(zip(panels(figure, len(shown), 4), shown, strict=True)):
            table = column(runs, "loss")
            band(axis, table, place, ls="-")
            last = table.dropna(how="all").mean(axis=1)
            if len(last):
                axis.annotate(
                    f"{last.iloc[-1]:.3g}",
                    (last.index[-1], last.iloc[-1]),
                    (3, 0),
                    textcoords="offset points",
                    va="center",
                    size=8,
                )
            axis.set_title(f"{method} ({counted(len(runs), 'seed')})", color=color(place), weight="bold")
            axis.set_ylabel("loss" if number % columns == 0 else "")
            steps_below(axis)


def draw_schedules(curves: Curves, path: Path) -> None:
    """Draw learning rate, tau and beta as the runs recorded them: mean and range over seeds, since a beta can adapt."""
    draw_columns(curves, SCHEDULES, path)


def draw_health(curves: Curves, path: Path) -> None:
    """Plot the collapse metrics of the embeddings (rsa.training.collapse)."""
    draw_columns(curves, HEALTH, path)


def draw_online(curves: Curves, path: Path) -> None:
    """Plot what the online probe found (rsa.evaluation.online_probe), which is no score."""
    draw_columns(curves, ONLINE, path, marker="o")


def draw_columns(curves: Curves, names: dict[str, str], path: Path, x: str = "step", marker: str = "") -> None:
    """Draw a panel for each column that any run has, with a line and a band for each method."""
    having = {method: {name for name in names for run in runs.values() if name in run} for method, runs in curves.items()}
    shown = [name for name in names if any(name in columns for columns in having.values())]
    rows, _ = arranged(len(shown))
    with drawing(path, WIDTH, 2.3 * rows + 0.35) as figure:
        for axis, name in zip(panels(figure, len(shown)), shown, strict=True):
            for place, (method, runs) in enumerate(curves.items()):
                if name in having[method]:
                    band(axis, column(runs, name, x), place, marker=marker, ms=4)
            axis.set_title(names[name])
            if x == "step":
                steps_below(axis)
            else:
                axis.set_xlabel("share of training")
        legend(figure, list(curves), {method: len(runs) for method, runs in curves.items() if having[method]})
