"""A stage whose params, code or inputs change while it runs fails, and nothing of it is recorded or left behind."""

from collections.abc import Callable

import pytest

from tests.engines.agreement import changes, without_code
from tests.engines.project import ENGINES, Project
from tests.engines.states import beta, edit, overwrite, several

STAGE, OUT = "pretrain@rsa-0", "runs/rsa/s0"
beta_again = edit("params.yaml", "start: 0.3", "start: 0.2")
CHANGES = {
    "params": (beta_again, "params.yaml: methods.rsa"),
    "code": (edit("pipeline/pretrain.py", "VERSION = 1", "VERSION = 2"), "pipeline/pretrain.py"),
    "imported code": (edit("rsa/methods/rsa.py", "VERSION = 1", "VERSION = 1 + 0"), "rsa/methods/rsa.py"),
    "input": (overwrite("data/shards/digits/manifest.json"), "data/shards/digits/manifest.json"),
}
COMBINATIONS = [
    pytest.param(engine, what, marks=[] if (engine, what) in {("dvc", "params"), ("snakemake", "input")} else [pytest.mark.slow])
    for engine in ENGINES
    for what in CHANGES
]


def change_while_running(project: Project, command: list[str], change: Callable[[Project], None]) -> tuple[int, str]:
    """Begin to run STAGE with another beta, make the change, let the command end; exit code and what was printed."""
    beta(project)
    release = project.hold(STAGE)
    run = project.start(*command)
    project.wait_until_held(STAGE, run)
    change(project)
    release()
    return run.wait(), (project.folder / "printed").read_text()


@pytest.mark.parametrize(("engine", "what"), COMBINATIONS)
def test_stage_fails_and_records_nothing(engine: str, what: str, built: Project) -> None:
    before, (change, named) = without_code(built), CHANGES[what]
    code, printed = change_while_running(built, ENGINES[engine], change)
    assert code != 0
    assert f"changed while the stage ran: {named}" in printed
    assert without_code(built) == before
    left = [path for path in (built.folder / OUT).parent.rglob("*") if path.is_file() and path.is_relative_to(built.folder / OUT)]
    assert left == []
    assert list(built.folder.rglob("*.partial")) == []
    assert built.ran() == [STAGE]


def test_what_changes_no_result_may_change_while_a_stage_runs(built: Project) -> None:
    harmless = several(
        edit("params.yaml", "ema_start: 0.7", "ema_start: 0.98"),  # the first is of byol
        edit("params.yaml", "on_collapse: stop", "on_collapse: mark"),
        edit("rsa/methods/rsa.py", "VERSION = 1", "VERSION = 1  # a comment"),
        edit("rsa/loop.py", "What every run imports.", "What all runs import."),
        edit("rsa/methods/byol.py", "VERSION = 1", "VERSION = 2"),
    )
    code, printed = change_while_running(built, ["dvc", "repro", STAGE], harmless)
    assert code == 0, printed
    assert STAGE not in built.dvc("status")


@pytest.mark.slow
@pytest.mark.parametrize("what", ["params", "input"])
def test_run_again_it_gives_what_it_would_have_given_undisturbed(what: str, built: Project) -> None:
    undisturbed = built.copy(built.folder.with_name("undisturbed"))
    change, _ = CHANGES[what]
    change_while_running(built, ENGINES["dvc"], change)
    beta(undisturbed)
    change(undisturbed)
    for project in (built, undisturbed):
        project.run("dvc")
    assert changes(undisturbed.tree(), built.tree()) == []
