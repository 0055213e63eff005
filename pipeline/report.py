"""Stage `report`: compare the methods of the experiment.

out/: report.md, scores.csv (every score of every seed), figures/
"""

import json
from pathlib import Path

import pandas as pd

from pipeline.stage import run
from rsa import provenance
from rsa.params import Params
from rsa.reporting.figures import draw_curves, draw_hard_views, draw_health, draw_schedules, draw_scores, enlarge_views
from rsa.reporting.report import render
from rsa.reporting.results import FLOORS, Results, read_scores

READS = tuple(name for name in Params.model_fields if name != "logging")


def report(p: Params, scores: Path, runs: Path, out: Path) -> None:
    """Write the report from the scores and the runs of every method and seed."""
    e = p.experiment
    cells = {method: {seed: runs / method / f"s{seed}" for seed in e.seeds} for method in e.methods}
    curves = {method: {seed: pd.read_csv(run / "curve.csv") for seed, run in seeds.items()} for method, seeds in cells.items()}
    table = read_scores(scores, p)
    results = Results(table, e, p.report.confidence)

    figures = out / "figures"
    figures.mkdir()
    draw_scores(results, figures / "scores.png")
    draw_curves(curves, figures / "loss.png")
    draw_schedules(curves, figures / "schedules.png")
    draw_health(curves, figures / "health.png")
    hard_views = draw_hard_views(curves, figures / "hard_views.png")
    for method, seeds in cells.items():
        enlarge_views(seeds[e.seeds[0]] / "views.png", figures / f"views_{method}.png")

    table.to_csv(out / "scores.csv", index=False, lineterminator="\n")
    manifests = [json.loads((run / "run.json").read_text()) for seeds in cells.values() for run in seeds.values()]
    (out / "report.md").write_text(render(p, results, manifests, _unconverged(scores, p), hard_views, provenance.commit()))


def _unconverged(scores: Path, p: Params) -> list[str]:
    found = []
    for method in (*FLOORS, *p.experiment.methods):
        for seed in p.experiment.seeds:
            for file in sorted((scores / method / f"s{seed}").glob("*.json")):
                for task, score in json.loads(file.read_text()).items():
                    if not score.get("converged", True):
                        found.append(f"{method} s{seed} {file.stem} {task}")
    return found


if __name__ == "__main__":
    run(report, READS)
