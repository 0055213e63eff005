"""Stage `report`: compare the methods of the experiment.

out/: report.md, scores.csv (every score of every seed), figures/
"""

from pathlib import Path

from pipeline.stage import run
from rsa import provenance
from rsa.params import Params
from rsa.reporting.figures import draw_curves, draw_hard_views, draw_health, draw_schedules, draw_scores, enlarge_views
from rsa.reporting.report import render
from rsa.reporting.results import Results, read_scores
from rsa.reporting.runs import read_runs

READS = tuple(name for name in Params.model_fields if name != "logging")


def report(p: Params, scores: Path, runs: Path, out: Path) -> None:
    """Write the report from the scores and the runs of every method and seed, as far as they are there."""
    found, made = read_scores(scores, p), read_runs(runs, scores, p)
    results = Results(found.table, p.experiment, p.report.confidence)

    figures = out / "figures"
    figures.mkdir()
    draw_scores(results, figures / "scores.png")
    if made.curves:
        draw_curves(made.curves, figures / "loss.png")
        draw_schedules(made.curves, figures / "schedules.png")
        draw_health(made.curves, figures / "health.png")
        draw_hard_views(made.curves, figures / "hard_views.png")
    for method in p.experiment.methods:
        views = runs / method / f"s{p.experiment.seeds[0]}" / "views.png"
        if views.is_file():
            enlarge_views(views, figures / f"views_{method}.png")

    found.table.to_csv(out / "scores.csv", index=False, lineterminator="\n")
    drawn = [file.name for file in figures.iterdir()]
    (out / "report.md").write_text(render(p, found, results, made, drawn, provenance.commit()))


if __name__ == "__main__":
    run(report, READS)
