"""Stage `report`: compare the methods of the experiment.

out/: report.md, report.html (the same, whole in one file), scores.csv (every score of every seed), figures/,
plots/ (of all runs, for `dvc plots`)
"""

from pathlib import Path

from pipeline.stage import run
from rsa import provenance
from rsa.params import Params
from rsa.reporting.figures.gallery import draw_figures
from rsa.reporting.html import page
from rsa.reporting.plots import write_plots
from rsa.reporting.report import render
from rsa.reporting.results import Results, read_scores
from rsa.reporting.runs import read_runs

READS = tuple(name for name in Params.model_fields if name != "logging")


def report(p: Params, scores: Path, runs: Path, out: Path) -> None:
    """Write the report from the scores and the runs of every method and seed, as far as they are there."""
    found, made = read_scores(scores, p), read_runs(runs, scores, p)
    results = Results(found.table, p.experiment, p.report.confidence)

    (out / "figures").mkdir()
    figures = draw_figures(p, found.table, made, scores, runs, out / "figures")
    (out / "plots").mkdir()
    write_plots(made.curves, made.quality, out / "plots")

    found.table.to_csv(out / "scores.csv", index=False, lineterminator="\n")
    text = render(p, found, results, made, figures, provenance.commit())
    (out / "report.md").write_text(text)
    (out / "report.html").write_text(page(text, out))


if __name__ == "__main__":
    run(report, READS)
