"""Stage `report`: compare the methods of the experiment.

out/: report.md, scores.csv (every score of every seed), figures/
"""

from pathlib import Path
from typing import NamedTuple

from pipeline.stage import run
from rsa import provenance
from rsa.params import Params
from rsa.reporting.figures import draw_curves, draw_hard_views, draw_health, draw_schedules, draw_scores, enlarge_views
from rsa.reporting.report import render
from rsa.reporting.results import Results, read_scores
from rsa.reporting.runs import Runs, read_runs

READS = tuple(name for name in Params.model_fields if name != "logging")


def report(p: Params, scores: Path, runs: Path, out: Path) -> None:
    """Write the report from the scores and the runs of every method and seed, as far as they are there."""
    found, made = read_scores(scores, p), read_runs(runs, scores, p)
    results = Results(found.table, p.experiment, p.report.confidence)

    (out / "figures").mkdir()
    figures = draw_figures(p, results, made, runs, out / "figures")

    found.table.to_csv(out / "scores.csv", index=False, lineterminator="\n")
    (out / "report.md").write_text(render(p, found, results, made, figures, provenance.commit()))


class Figure(NamedTuple):
    """A file below figures/, and what is said of it."""

    section: str
    file: str
    alt: str
    caption: str


def draw_figures(p: Params, results: Results, made: Runs, runs: Path, folder: Path) -> list[Figure]:
    """What there is data for."""
    drawn = [Figure("scores", "scores.png", "Scores of every seed", "")]
    draw_scores(results, folder / "scores.png")
    if made.curves:
        draw_curves(made.curves, folder / "loss.png")
        draw_schedules(made.curves, folder / "schedules.png")
        draw_health(made.curves, folder / "health.png")
        collapse = "Do the embeddings still tell samples apart? Standard deviation 0 or effective rank 1 would be a collapse."
        drawn += [Figure("training", "loss.png", "Loss", ""), Figure("training", "schedules.png", "Schedules", "")]
        drawn.append(Figure("training", "health.png", "Embeddings", collapse))
        if draw_hard_views(made.curves, folder / "hard_views.png"):
            chosen = "What was chosen, against all pairs of candidates: harder pairs overlap less and differ more in colour."
            drawn.append(Figure("hard views", "hard_views.png", "Hard views", chosen))
    for method in p.experiment.methods:
        views = runs / method / f"s{p.experiment.seeds[0]}" / "views.png"
        if views.is_file():
            enlarge_views(views, folder / f"views_{method}.png")
            manifest = made.manifests.get((method, p.experiment.seeds[0]), {})
            names = f"{method}, first batch, a column per image; from above: {'; '.join(manifest.get('views', []))}"
            drawn.append(Figure("views", f"views_{method}.png", f"Views of {method}", names))
    return drawn


if __name__ == "__main__":
    run(report, READS)
