"""Tests that DVC's tables of experiments fit a terminal, its page of plots works offline, and live files make no stage stale."""

import json
import re
import shutil
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from rsa.params.document import Params
from rsa.reporting.metrics import metrics
from rsa.reporting.plots import write_plots
from rsa.reporting.results import Results
from rsa.reporting.scores import read_scores
from tests.browser import CHROMIUM, dumped
from tests.engines.conftest import commit
from tests.engines.imports import ROOT
from tests.engines.project import Project
from tests.reporting.experiment import write_scores
from tests.reporting.figures.recordings import curve
from tests.reporting.figures.recordings import metrics as of_snapshots

METHODS, SEEDS = ("byol", "rsa"), (0, 1)


def write_metrics(project: Project, scores: Path, p: Params, more: float) -> Results:
    """Write reports/metrics.json of tiny.yaml's methods and columns, all of RSA's scores higher by `more` points."""
    table = read_scores(scores, scores.parent / "runs", p).table
    table.loc[table["method"] == "rsa", "value"] += more
    results = Results(table, p)
    (project.folder / "reports/metrics.json").write_text(json.dumps(metrics(results)))
    return results


def test_experiments_fit_a_terminal_and_their_difference_a_screen(built: Project, tiny: Params, tmp_path: Path):
    scores = write_scores(tmp_path / "scores")
    write_metrics(built, scores, tiny, 0.0)
    built.dvc("commit", "--force", "--quiet", "report")
    commit(built)
    built.edit("params.yaml", "start: 0.4", "start: 0.2")
    results = write_metrics(built, scores, tiny, 1.5)
    shown = built.dvc("exp", "show", "--only-changed", "--no-pager", "--drop", "mean|interval|Created|.*shot", COLUMNS="200")
    assert max(map(len, shown.splitlines())) <= 200
    columns = re.findall(r"\S+(?: \S+)*", shown.splitlines()[1])
    tasks = [f"rsa-byol.{results.name(task)}" for task in results.tasks]
    assert columns == ["Experiment", *(task for task in tasks if "shot" not in task), "methods.rsa.beta.start"]
    rows = built.dvc("metrics", "diff", COLUMNS="200").splitlines()
    assert len(rows) <= 40
    assert max(map(len, rows)) <= 100
    changes = {
        name: float(change) for name, change in (re.findall(r"(\S.*?)  +.* (\S+)", row.partition(" ")[2])[0] for row in rows[1:])
    }
    assert {changes[task] for task in tasks} == {1.5}
    assert {row.split()[0] for row in rows[1:]} == {"reports/metrics.json"}


def test_plots_are_drawn_without_the_network(built: Project, tmp_path: Path):
    """A plot for each entry of dvc.yaml, all runs of both revisions in it."""
    shutil.copytree(ROOT / ".dvc/plots", built.folder / ".dvc/plots")
    config = (ROOT / ".dvc/config").read_text().partition("[plots]")
    (built.folder / ".dvc/config").write_text((built.folder / ".dvc/config").read_text() + "".join(config[1:]))
    curves = {method: {seed: curve(method, place, seed) for seed in SEEDS} for place, method in enumerate(METHODS)}
    measured = {method: {seed: of_snapshots(place, seed) for seed in SEEDS} for place, method in enumerate(METHODS)}
    (built.folder / "reports/plots").mkdir()
    write_plots(curves, measured, built.folder / "reports/plots")
    built.dvc("commit", "--force", "--quiet", "report")
    commit(built)
    table = built.folder / "reports/plots/curves.csv"
    pd.read_csv(table).assign(loss=lambda old: old["loss"] + 1).to_csv(table, index=False)
    built.dvc("plots", "diff", "HEAD")
    page = (built.folder / "dvc_plots/index.html").read_text()
    assert re.findall(r"(?:src|href)\s*=|https?://(?!vega\.github\.io/schema)", page) == []
    assert built.call("git", "status", "--porcelain", "--", "dvc_plots") == ""
    if CHROMIUM is None:
        pytest.skip("needs chromium or google-chrome: what the page draws is not tested")
    drawn = re.sub(r"<script.*?</script>", "", dumped(built.folder / "dvc_plots/index.html", tmp_path), flags=re.DOTALL)
    titles = re.findall(r"<figcaption>([^<]*)</figcaption>", drawn)
    assert titles[:1] == ["loss"]
    assert len(titles) == 7
    loss, beta, *_ = drawn.split("<figure>")[1:]
    lines = {name: path for path, name in re.findall(r'stroke-dasharray="[^"]*" d="M([^"]*)">\s*<title>([^<]*)', loss)}
    assert set(lines) == {f"{method} {seed} {rev}" for method in METHODS for seed in SEEDS for rev in ("workspace", "HEAD")}
    heights = {name: [float(point.split()[1]) for point in path.split("L")] for name, path in lines.items()}
    for method in METHODS:  # a higher loss stands above, by as much everywhere
        apart = {round(b - a, 3) for a, b in zip(heights[f"{method} 0 workspace"], heights[f"{method} 0 HEAD"], strict=True)}
        assert len(apart) == 1
        assert apart.pop() > 0
    assert "byol" not in beta.partition("<title>")[2].partition("<")[0]  # which has none


def test_a_live_curve_can_be_seen_and_makes_nothing_stale(built: Project):
    live = built.folder / "live/curves"
    live.mkdir(parents=True)
    (built.folder / "curve.csv").write_text("step,loss,tau\n1,4.5,0.9\n2,4.25,0.91\n")  # the run's, elsewhere
    (live / "rsa_s7.csv").symlink_to(built.folder / "curve.csv")
    plot = json.loads(built.dvc("plots", "show", "live/curves", "-x", "step", "-y", "loss", "--show-vega"))
    assert [(point["step"], point["loss"]) for point in plot["data"]["values"]] == [("1", "4.5"), ("2", "4.25")]
    assert "up to date" in built.dvc("status")
    assert built.call("git", "status", "--porcelain", "--", "live") == ""


@pytest.mark.slow
def test_snakemakes_report_says_what_it_shows(built: Project, tmp_path: Path):
    """The page of `snakemake --report` has the start text, a caption for each of its files, and the files themselves."""
    reports = built.folder / "reports"
    (reports / "figures").mkdir()
    (reports / "report.html").write_text("<!DOCTYPE html><title>toy</title>")
    (reports / "scores.csv").write_text("method,value\nbyol,80\n")
    (reports / "figures/scores.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    built.dvc("commit", "--force", "--quiet", "report")
    built.snakemake("--report", str(tmp_path / "page.zip"))
    with zipfile.ZipFile(tmp_path / "page.zip") as archive:
        (page,) = (name for name in archive.namelist() if name.endswith("report.html") and "data" not in name)
        text = archive.read(page).decode()
        names = {Path(name).name for name in archive.namelist()}
    for caption in sorted((ROOT / "engines/report").glob("*.rst")):
        assert " ".join(caption.read_text().replace("**", "").split()[:4]) in " ".join(re.sub(r"<[^>]*>", "", text).split()), (
            caption
        )
    assert {"report.html", "scores.csv", "scores.svg"} <= names
