"""`rsa compare`: compare two git revisions or DVC experiments."""

from pathlib import Path

import click

WORKSPACE = "workspace"  # DVC's word for the files as they are
PARAMS, EXPERIMENT, SCORES, MISSING = "params.yaml", "reports/experiment.yaml", "reports/scores.csv", "reports/missing.csv"


@click.command()
@click.argument("a", metavar="A", help="The revision to compare with, as REVISION or REVISION:METHOD.")
@click.argument(
    "b", metavar="[B]", default=WORKSPACE, help="The revision that may be better, likewise; without it, the files as they are."
)
@click.option("--markdown", is_flag=True, help="Print Markdown instead of tables for the terminal.")
def compare(a: str, b: str, markdown: bool) -> None:
    """Compare two git revisions or DVC experiments.

    Scores are compared by paired differences B - A over the seeds that both have; params that changed, and what only one has,
    are listed, as the reports were made with them. A REVISION is a commit, a branch, a tag, the name of an experiment, or
    `workspace`, the files as they are. A:METHOD and B:METHOD compare two methods, as a baseline that trained longer with a
    method that costs more. Scores are read from DVC's cache or remote. Those measured with other protocol settings, on other
    images or other crops are refused by name, and so is what a report left out as stale.

    Example: rsa compare main my_experiment
    """
    from rsa.reporting import comparison

    side_a, side_b = (comparison.side(given, *read(given.partition(":")[0], Path())) for given in (a, b))
    confidence = float(side_b.params["report.confidence"])
    compared = comparison.compare(side_a, side_b, confidence)
    if markdown:
        print(comparison.markdown(side_a, side_b, compared, confidence), end="")
        return
    for title, head, rows in comparison.tables(side_a, side_b, compared, confidence):
        print_table(title, head, rows)
    print(comparison.sentence(comparison.verdict(compared, 1 - confidence)))


def read(revision: str, root: Path) -> tuple[str, str, str, str | None]:
    """Return the texts of params.yaml, and of the report's experiment.yaml, scores.csv and missing.csv, in a revision of `root`.

    The last is None for a report of an older version. Raises ValueError if one of the other three is missing, or if there is no
    such revision.
    """
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException
    from dvc_data.index import DataIndexDirError
    from scmrepo.exceptions import SCMError

    try:
        files = DVCFileSystem(str(root), rev=None if revision == WORKSPACE else revision)
        missing = files.read_text(MISSING) if files.exists(MISSING) else None
        return files.read_text(PARAMS), files.read_text(EXPERIMENT), files.read_text(SCORES), missing
    except (FileNotFoundError, DataIndexDirError) as why:
        raise ValueError(
            f"{revision} must have {PARAMS}, {EXPERIMENT} and {SCORES}, but one is missing ({why}): commit dvc.lock after "
            "`dvc repro`; `dvc pull` gets what this machine's cache lacks"
        ) from None
    except (DvcException, SCMError) as why:
        raise ValueError(f"A and B must be revisions, experiments or `{WORKSPACE}`, got {revision!r}: {why}") from None


def print_table(title: str, head: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Print a table as wide as the terminal, or wide enough for a file."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(*head, title=escape(title), title_justify="left")
    for row in rows:
        table.add_row(*map(escape, row))
    Console(width=None if Console().is_terminal else 160, highlight=False).print(table)
