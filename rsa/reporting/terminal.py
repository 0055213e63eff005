"""The report in a few lines for the terminal: its table of scores, what the stages took, and which runs were resumed."""

from collections import defaultdict

from rich.markup import escape
from rich.table import Table

from rsa.params.document import Document
from rsa.reporting.report import cell, difference
from rsa.reporting.results import Results


def scores(p: Document, results: Results) -> Table:
    """Build the report's table: scores of every method and column, and each method's paired difference to the baseline."""
    e = p.experiment
    interval = f"± half its {100 * p.report.confidence:g} % interval, bold where significant after Holm correction"
    table = Table(title=escape(f"{e.dataset}: %, mean ± sd (seeds); paired difference to {e.baseline} {interval}"))
    table.add_column("method")
    for task in results.tasks:
        table.add_column(results.name(task).replace(" ", "\n", 1), justify="right")
    for method in results.rows:
        table.add_row(method, *(cell(results.summary(method, task)) for task in results.tasks))
    table.add_section()
    for method in results.compared:
        comparisons = [comparison for comparison in results.comparisons() if comparison.method == method]
        texts = [f"[bold]{difference(c).strip('*')}[/]" if c.significant else difference(c) for c in comparisons]
        table.add_row(f"{method} − {e.baseline}", *texts)
    return table


def seconds(logs: list[dict[str, str]]) -> list[str]:
    """Sum the seconds by kind of stage (pretraining also by method), over the last execution of each stage."""
    if not logs:
        return []
    kinds: dict[str, list[float]] = defaultdict(list)
    for log in logs:
        kind = log["stage"].partition("@")[0]
        kinds[f"{kind} {log['method']}" if kind == "pretrain" and "method" in log else kind].append(float(log["seconds"]))
    total = ", ".join(f"{kind} {sum(took):.0f} s ({len(took)})" for kind, took in kinds.items())
    return [f"seconds on {', '.join(sorted({log['host'] for log in logs}))}, stages of a kind added up (how many): {total}"]


def resumed(logs: list[dict[str, object]]) -> list[str]:
    """Return a line that lists the runs resumed from a checkpoint, if there are any."""
    names = [str(log["stage"]) for log in logs if log.get("resumed")]
    return [f"resumed from a checkpoint: {', '.join(names)}"] if names else []
