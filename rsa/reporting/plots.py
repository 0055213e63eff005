"""Tables of all runs for `dvc plots`, with columns for method and seed, since the plots in dvc.yaml cannot name either."""

from pathlib import Path

import pandas as pd

from rsa.reporting.figures.style import Curves, column, thinned

CURVE = ("loss", "lr", "tau", "beta")


def write_plots(curves: Curves, metrics: Curves, folder: Path) -> None:
    """Write curves.csv (method, seed, step and CURVE, smoothed and thinned) and representation.csv (method, seed and metrics)."""
    rows = []
    for method, runs in curves.items():
        for seed, run in runs.items():
            names = [name for name in CURVE if name in run]
            table = thinned(pd.concat([column({seed: run}, name).set_axis([name], axis=1) for name in names], axis=1))
            rows.append(table.reset_index().assign(method=method, seed=seed))
    _write(rows, ["method", "seed", "step", *CURVE], folder / "curves.csv")
    measured = [run.assign(method=method, seed=seed) for method, runs in metrics.items() for seed, run in runs.items()]
    _write(measured, ["method", "seed"], folder / "representation.csv")


def _write(tables: list[pd.DataFrame], first: list[str], path: Path) -> None:
    table = pd.concat(tables) if tables else pd.DataFrame(columns=first)
    columns = [name for name in first if name in table] + [name for name in table if name not in first]
    table[columns].to_csv(path, index=False, float_format="%.6g", lineterminator="\n")
