"""Revisions and experiments of a real git and DVC repository, whose one stage writes scores that follow from params.yaml."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from scipy.stats import ttest_rel

from rsa.commands import commands
from rsa.commands.compare import read
from rsa.reporting.comparison import cells, left_out, side
from tests.conftest import TINY
from tests.engines.imports import ROOT
from tests.engines.project import Project

STAGE = '''"""The better, the smaller beta.start; with noise of its own for every seed."""
import json, sys
from pathlib import Path
from ruamel.yaml import YAML

p = YAML(typ="safe").load(Path("params.yaml"))
lines = ["method,seed,dataset,task,protocol,metric,value,step,best_on_test,settings,file"]
for method in p["experiment"]["methods"]:
    for seed in p["experiment"]["seeds"]:
        beta = p["methods"][method].get("beta", {"start": 0.4})["start"]
        epochs = p["pretrain"]["epochs"]
        value = 80 + 10 * (0.4 - beta) * (1 + seed / 10) + seed + epochs
        k = p["probe"]["protocols"]["knn"]["k"][0]
        lines += [f"{method},{seed},digits,knn,knn,top1,{value},0.0,,k{k},scores/{method}/s{seed}/probe.json"]
        lines += [f"{method},{seed},digits,sklearn,sklearn,top1,{value - 1},0.0,,lr,scores/{method}/s{seed}/probe.json"]
Path("reports").mkdir(exist_ok=True)
del p["runtime"]
YAML().dump(p, Path("reports/experiment.yaml"))
Path("reports/scores.csv").write_text("\\n".join(lines) + "\\n")
Path("reports/missing.csv").write_text("file,reason,command\\n")
'''
DVC_YAML = """stages:
  report:
    cmd: python make.py
    deps: [make.py]
    params: [experiment, methods, pretrain, probe]
    outs: [reports]
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The commit `first`; the experiment `small` with a smaller beta; the commit `grown` with a seed more."""
    folder = tmp_path_factory.mktemp("compared")
    made = Project(folder / "project", folder / "home")
    for place in (made.folder, made.home):
        place.mkdir()
    (made.folder / "make.py").write_text(STAGE)
    (made.folder / "dvc.yaml").write_text(DVC_YAML)
    (made.folder / "params.yaml").write_text(TINY.read_text())
    (made.folder / ".gitignore").write_text("/reports\n")
    made.call("git", "init", "--quiet", "--initial-branch", "main")
    made.call("git", "config", "user.name", "toy")
    made.call("git", "config", "user.email", "toy@localhost")
    made.dvc("init", "--quiet")
    made.dvc("repro")
    commit(made, "first")
    made.dvc("exp", "run", "--quiet", "--name", "small", "--set-param", "methods.rsa.beta.start=0.2")
    made.call("git", "checkout", "--quiet", "--force", "first")
    made.call("git", "switch", "--quiet", "--create", "grown_branch")
    made.edit("params.yaml", "seeds: [0, 1]", "seeds: [0, 1, 2]")
    made.dvc("repro")
    commit(made, "grown")
    made.edit("params.yaml", "knn: {classifier: knn, k: [5]", "knn: {classifier: knn, k: [7]")
    made.dvc("repro")
    commit(made, "other_k")
    made.call("git", "switch", "--quiet", "main")
    made.dvc("checkout", "--quiet")
    return made


def commit(project: Project, tag: str) -> None:
    project.call("git", "add", "--all")
    project.call("git", "commit", "--quiet", "--message", tag)
    project.call("git", "tag", tag)


Compare = Callable[..., str]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Compare:
    """What the command prints in a project; in this process: DVC takes long to import."""

    def run(project: Project, *arguments: str, error: bool = False) -> str:
        for name, value in project.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(project.folder)
        found = CliRunner().invoke(commands, ["compare", *arguments])
        assert found.exit_code == int(error), found.output
        return found.stderr if error else found.stdout

    return run


def test_an_experiment_is_compared_with_the_commit_that_it_came_from(project: Project, run: Compare) -> None:
    text = run(project, "first", "small", "--markdown")
    assert text.startswith("# small (B) against first (A)\n")
    # rsa gains 10 x 0.2 x (1, 1.1): 2.0 and 2.2; t(0.975, 1) = 12.7062, half-width 12.7062 x 0.1 = 1.2706; p by scipy
    p = ttest_rel([82.0, 83.2], [80.0, 81.0]).pvalue
    for task in ("knn", "sklearn"):
        assert f"| rsa | digits {task} | 2 | +2.10 | [+0.83, +3.37] | {min(1, 2 * p):.3f} |" in text
    assert "| byol, digits knn |" in text.partition("## Equal")[2].partition("##")[0]
    assert "| methods.rsa.beta.start | 0.4 | 0.2 |" in text
    assert text.count("| methods.") == 1
    assert "Of 2 comparisons, B is significantly better in 0 and worse in 0." in text


def test_the_other_way_round_the_sign_is_the_other(project: Project, run: Compare) -> None:
    assert "| rsa | digits knn | 2 | −2.10 | [−3.37, −0.83] |" in run(project, "small", "first", "--markdown")


def test_the_terminal_shows_the_same_numbers(project: Project) -> None:
    text = project.call(sys.executable, "-m", "rsa", "compare", "first", "small", PYTHONPATH=str(ROOT))
    assert all(part in text for part in ("+2.10", "[+0.83, +3.37]", "methods.rsa.beta.start", "Of 2 comparisons"))


def test_new_cells_are_named_and_no_comparison(project: Project, run: Compare) -> None:
    text = run(project, "first", "grown", "--markdown")
    assert "| rsa, digits knn, seeds 2 | grown |" in text
    assert "| experiment.seeds | [0, 1] | [0, 1, 2] |" in text


def test_scores_under_other_settings_are_refused(project: Project, run: Compare) -> None:
    text = run(project, "grown", "other_k", "--markdown")
    refused = text.partition("## Not comparable")[2].partition("##")[0]
    assert "rsa, digits knn: measured with other settings in grown than in other_k" in refused
    assert "sklearn" not in refused
    assert "| rsa | digits knn" not in text
    assert "| probe.protocols.knn.k | [5] | [7] |" in text


def test_two_methods_are_compared_across_revisions(project: Project, run: Compare) -> None:
    text = run(project, "first:byol", "small:rsa", "--markdown")
    assert "| rsa − byol | digits knn | 2 | +2.10 |" in text
    assert "byol, digits" not in text


def test_the_workspace_is_the_other_side_where_none_is_named(project: Project, run: Compare, tmp_path: Path) -> None:
    copy = project.copy(tmp_path / "copy")
    scores = copy.folder / "reports" / "scores.csv"
    table = pd.read_csv(scores)
    table.loc[(table["method"] == "rsa") & (table["task"] == "knn"), "value"] -= [10.0, 11.0]
    table.to_csv(scores, index=False)
    text = run(copy, "first", "--markdown")
    assert text.startswith("# workspace (B) against first (A)\n")
    assert "| rsa | digits knn | 2 | −10.50 |" in text


def test_params_that_were_edited_but_not_run_are_named_and_not_compared(project: Project, run: Compare, tmp_path: Path) -> None:
    copy = project.copy(tmp_path / "copy")
    copy.edit("params.yaml", "start: 0.4", "start: 0.1")
    text = run(copy, "first", "--markdown")
    assert "## Params" not in text
    assert "| methods.rsa.beta.start | workspace |" in text.partition("## Edited in params.yaml but not run")[2]


def test_what_a_report_left_out_as_stale_is_named(project: Project, run: Compare, tmp_path: Path) -> None:
    copy = project.copy(tmp_path / "copy")
    missing = copy.folder / "reports/missing.csv"
    title = "## Left out of the report as missing, damaged or stale"
    assert title not in run(copy, "first", "--markdown")
    missing.write_text("file,reason,command\nscores/rsa/s0/probe.json,is stale,dvc repro probe@rsa-0\n")
    assert "| scores/rsa/s0/probe.json is stale | workspace |" in run(copy, "first", "--markdown").partition(title)[2]
    assert left_out(None) == ("an older version made the report, which did not ask whether its scores were stale",)


def test_fewer_seeds_with_the_same_scores_are_equal(project: Project, run: Compare) -> None:
    text = run(project, "grown", "first", "--markdown")
    assert "Of 0 comparisons" in text
    assert "| rsa, digits knn, seeds 2 | grown |" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("first", "nonsense"), "A and B must be revisions, experiments or `workspace`, got 'nonsense'"),
        (("first:moco", "small:rsa"), "first:moco must name a method of first, got 'moco' (known: pixels, random, byol, rsa)"),
        (("first:byol", "small"), "A and B must both name a method or neither"),
    ],
)
def test_what_cannot_be_compared_is_said(project: Project, run: Compare, arguments: tuple[str, ...], message: str) -> None:
    assert run(project, *arguments, error=True).startswith(f"rsa compare: error: {message}")


def test_a_revision_without_scores_is_named(project: Project, run: Compare, tmp_path: Path) -> None:
    copy = project.copy(tmp_path / "copy")
    copy.call("git", "rm", "--quiet", "dvc.lock")
    copy.call("git", "commit", "--quiet", "--message", "none")
    assert "HEAD must have params.yaml, reports/experiment.yaml and reports/scores.csv" in run(copy, "HEAD", "first", error=True)


def test_scores_that_the_cache_has_lost_are_named(project: Project, run: Compare, tmp_path: Path) -> None:
    copy = project.copy(tmp_path / "copy")
    copy.remove(".dvc/cache", "reports")
    assert "`dvc pull` gets what this machine's cache lacks" in run(copy, "first", "small", error=True)


def test_the_workspace_of_this_test_reads_as_it_was_written(project: Project) -> None:
    got = side("workspace", *read("workspace", project.folder))
    methods = ("pixels", "random", "byol", "rsa")
    assert cells(got.scores, None).keys() == {(m, ("digits", t, t, "top1")) for m in methods for t in ("knn", "sklearn")}
    assert json.dumps(got.params["experiment.seeds"]) == "[0, 1]"
