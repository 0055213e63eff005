"""`rsa show`: print the last report's table of scores."""

from pathlib import Path

import click

from rsa.commands.options import FOLDER, params_file


@click.command()
@params_file
@click.option("--reports", type=FOLDER, default=Path("reports"), show_default=True, help="The report's folder.")
@click.option("--logs", type=FOLDER, default=Path("logs"), show_default=True, help="The folder of the stages' logs.")
def show(params_file: Path, reports: Path, logs: Path) -> None:
    """Print the last report's table of scores and what it took.

    Scores are means over seeds, with each method's paired difference to the baseline. Seconds are added up by kind of stage, and
    runs that continued from a checkpoint are named.

    Example: rsa show
    """
    import json

    import pandas as pd
    from rich.console import Console

    from rsa.params.load import load
    from rsa.reporting.results import Results
    from rsa.reporting.scores import TABLE
    from rsa.reporting.terminal import resumed, scores, seconds

    p, table = load(params_file), reports / "scores.csv"
    if not table.is_file():
        raise ValueError(f"{table} does not exist: run the pipeline first (`snakemake` or `dvc repro`)")
    all_scores = pd.read_csv(table)
    if lacking := sorted(set(TABLE) - set(all_scores)):
        raise ValueError(f"{table} has no {', '.join(lacking)}, as an older version made it: run `dvc repro`")
    if unknown := sorted(set(all_scores["method"]) - set(p.experiment.methods)):
        raise ValueError(
            f"{table} is of another experiment, with {', '.join(unknown)}: run the pipeline first (`snakemake` or `dvc repro`)"
        )
    console = Console(width=None if Console().is_terminal else 160)
    console.print(scores(p, Results(all_scores, p)))
    entries = [json.loads(file.read_text()) for file in sorted(logs.glob("*.json"))]
    for line in (*seconds(entries), *resumed(entries)):
        console.print(line, highlight=False)
    print(f"report: {reports / 'report.md'}")
