"""`dvc exp run` as the docs tell it: in the working tree with a way back, in a folder of its own, and from a queue."""

import json

import pytest

from tests.engines.conftest import commit
from tests.engines.project import Project
from tests.engines.toy import dump_yaml, load_yaml

COPY = ("--copy-paths", "data/raw")  # of raw data that git ignores
BETA = ("--set-param", "methods.rsa.beta.start=0.2")


def with_ignored_raw_data(project: Project) -> None:
    """Build and commit a project whose raw data lies under data/, which git ignores."""
    (project.folder / "data").mkdir()
    (project.folder / "raw").rename(project.folder / "data/raw")
    params = load_yaml(project.folder / "params.yaml")
    for section in params["datasets"].values():
        section["raw"] = f"data/{section['raw']}"
    dump_yaml(params, project.folder / "params.yaml")
    project.edit(".gitignore", "/data/\n", "/data/\n/ran.log\n")  # the toy's own
    project.dvc("repro", "--quiet")
    commit(project)


def values(project: Project, key: str) -> list[object]:
    """The values that a key of the report's metric, or RSA's beta, has in the experiments of HEAD."""
    shown = json.loads(project.dvc("exp", "show", "--json", "--hide-workspace"))
    data = [run["revs"][0]["data"] for run in shown[0]["experiments"] or []]
    if key == "beta":
        return [one["params"]["params.yaml"]["data"]["methods"]["rsa"]["beta"]["start"] for one in data]
    return [one["metrics"]["reports/metrics.json"]["data"][key] for one in data]


@pytest.mark.slow
def test_experiments_run_elsewhere_and_here_and_there_is_a_way_back(written: Project):
    with_ignored_raw_data(written)
    before, metric = written.tree(), json.loads((written.folder / "reports/metrics.json").read_text())["digest"]
    written.dvc("exp", "run", "--temp", *COPY, *BETA)
    assert values(written, "beta") == [0.2]
    assert values(written, "digest") != [metric]
    written.dvc("exp", "run", "--queue", *COPY, "--set-param", "methods.rsa.beta.start=0.1")
    written.dvc("exp", "run", "--run-all")
    assert sorted(values(written, "beta")) == [0.1, 0.2]
    assert len({metric, *values(written, "digest")}) == 3
    assert written.call("git", "status", "--porcelain") == ""
    assert written.tree() == before  # neither has touched the working tree

    written.remove("ran.log")
    written.dvc("exp", "run", "--set-param", "methods.rsa.beta.start=0.3")
    changed = written.call("git", "status", "--porcelain").split()
    assert changed == ["M", "dvc.lock", "M", "params.yaml"]
    assert {stage for stage in written.ran() if stage.startswith("pretrain")} == {"pretrain@rsa-0"}
    written.call("git", "restore", "dvc.lock", "params.yaml")
    written.dvc("checkout", "--quiet")
    assert written.tree() == before
    assert "up to date" in written.dvc("status")
