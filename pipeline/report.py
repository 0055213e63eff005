"""Stage `report`: compare the methods of the experiment.

out/: report.md, report.html (the same, whole in one file), scores.csv (every score of every seed),
missing.csv (files that it leaves out, as they are missing, damaged or stale), metrics.json (means and differences, for
`dvc metrics`), experiment.yaml (the params that it was made with), figures/, plots/ (of all runs, for `dvc plots`)
"""

import shutil
from pathlib import Path

import pandas as pd
from pydantic import ValidationError

from pipeline.stage import run, write_json
from rsa import provenance
from rsa.params.document import Document
from rsa.params.faults import explained
from rsa.params.sections import read_document
from rsa.reporting.figures.gallery import draw_figures
from rsa.reporting.html import page
from rsa.reporting.leftovers import LEFTOVERS, put_aside
from rsa.reporting.metrics import metrics
from rsa.reporting.plots import write_plots
from rsa.reporting.report import render
from rsa.reporting.results import Results
from rsa.reporting.runs import read_runs
from rsa.reporting.scores import Missing, read_scores


def report(experiment: Path, scores: Path, runs: Path, out: Path) -> None:
    """Write the report from the scores and the runs of every method and seed of `experiment`, as far as they are there."""
    p = read_experiment(experiment)
    all_scores, all_runs = read_scores(scores, runs, p), read_runs(runs, scores, p)
    results = Results(all_scores.table, p)

    (out / "figures").mkdir()
    figures = draw_figures(p, all_scores.table, all_runs, runs, out / "figures")
    (out / "plots").mkdir()
    write_plots(all_runs.curves, all_runs.metrics, out / "plots")

    shutil.copy(experiment, out / "experiment.yaml")
    all_scores.table.to_csv(out / "scores.csv", index=False, lineterminator="\n")
    missing = pd.DataFrame([*all_runs.missing, *all_scores.missing], columns=Missing._fields)
    missing.to_csv(out / "missing.csv", index=False, lineterminator="\n")
    write_json(out / "metrics.json", metrics(results))
    text = render(p, all_scores, results, all_runs, figures, provenance.commit())
    (out / "report.md").write_text(text)
    (out / "report.html").write_text(page(text, out))


def put_leftovers_aside(experiment: Path, scores: Path, runs: Path) -> None:
    """Move files that do not belong to the experiment out of `scores` and `runs`.

    DVC watches both as a whole: leftovers of another experiment would make this report stale wherever they are not.
    """
    moved = put_aside(read_experiment(experiment), scores, runs)
    if moved:
        print(f"report: moved {len(moved)} files that are not of this experiment to {LEFTOVERS}/ ({moved[0]}, ...)", flush=True)


def read_experiment(path: Path) -> Document:
    """Read what stage `code` has written; ValueError names the file and its faults."""
    document = read_document(path)
    try:
        return Document.model_validate(document)
    except ValidationError as why:
        faults = "; ".join(explained(why.errors(), document))
        raise ValueError(f"{path} is cut off or damaged ({faults}): run the `code` stage again") from None


if __name__ == "__main__":
    run(report, prepare=put_leftovers_aside)
