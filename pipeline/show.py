"""python -m pipeline.show: print the comparison table of the last report, and where to read it."""

from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rsa import params
from rsa.reporting.report import cell, difference
from rsa.reporting.results import Results

REPORTS = Path("reports")


def show() -> None:
    """Top-1 of every method and task, and each method's paired difference to the baseline."""
    p = params.load(Path("params.yaml"))
    e = p.experiment
    results = Results(pd.read_csv(REPORTS / "scores.csv"), e, p.report.confidence)
    interval = f"[{100 * p.report.confidence:g} % interval]"
    table = Table(title=escape(f"{e.dataset}: top-1 (%), mean ± sd (seeds); paired difference to {e.baseline} {interval}"))
    table.add_column("method")
    for dataset, task in results.tasks:
        table.add_column(f"{dataset}\n{task}", justify="right")
    for method in results.rows:
        table.add_row(method, *(cell(results.summary(method, task)) for task in results.tasks))
    table.add_section()
    for method in e.methods:
        if method != e.baseline:
            differences = [difference(results.difference(method, task)).strip("*") for task in results.tasks]
            table.add_row(f"{method} - {e.baseline}", *map(escape, differences))
    Console(width=None if Console().is_terminal else 160).print(table)
    print(f"report: {REPORTS / 'report.md'}")


if __name__ == "__main__":
    show()
