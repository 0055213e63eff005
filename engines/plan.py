"""Query DVC for all stages, their dependencies, and which of them are stale.

A stage is stale when DVC finds its params, code, inputs, command or outputs changed (by content, never by time), or when
a stage that it needs is stale. This uses DVC's internals, which is why pyproject.toml pins DVC to the patch.
"""

import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

from dvc.exceptions import DvcException
from dvc.lock import LockError
from dvc.repo import Repo, lock_repo
from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro
from snakemake.cli import parse_args

from engines.repair import repair

CODE = "code"  # every other stage depends on this one


class Stage(NamedTuple):
    """A resolved stage of dvc.yaml."""

    needs: list[str]
    stale: bool
    meta: dict[str, Any]
    forced: bool = False


def update_code(root: Path = Path()) -> None:
    """Bring stage `code` up to date: unchanged outputs make no stage stale. Raise ValueError with the reason if it fails.

    The whole of params.yaml is validated first, because DVC reads only the keys that dvc.yaml names, and explains no fault.
    """
    repair(root)
    for command in (
        [sys.executable, "-m", "pipeline.code", "--check"],
        ["dvc", "--wait-for-lock", "repro", "--single-item", CODE],
    ):
        done = subprocess.run(command, cwd=root, capture_output=True, text=True)
        if done.returncode:
            raise ValueError(_reason(done.stdout + done.stderr))


def _reason(printed: str) -> str:
    """Return what stage `code` says if it ran, else all that was printed."""
    return (printed.partition("code: error: ")[2].partition("\nERROR: ")[0] or printed).strip()


def plan(root: Path = Path()) -> dict[str, Stage]:
    """Return every stage by name, dependencies first; raise ValueError if dvc.yaml or params.yaml cannot be resolved."""
    repair(root)
    try:
        with Repo(str(root), _wait_for_lock=True) as repo, lock_repo(repo):
            graph = get_active_graph(repo.index.graph)  # an edge a -> b: a needs b
            stages: dict[str, Stage] = {}
            for stage in plan_repro(graph, collect_stages(repo, ["dvc.yaml"])):
                needs = sorted(needed.addressing for needed in graph.successors(stage))
                stale = any(stages[name].stale for name in needs) or _changed(stage)
                stages[stage.addressing] = Stage(needs, stale, getattr(stage, "meta", None) or {})
            return stages
    except DvcException as why:
        raise ValueError(str(why)) from None


def force(stages: dict[str, Stage], wanted: Callable[[str], bool]) -> dict[str, Stage]:
    """Return the plan in which the stages with `wanted` names are forced, and what follows from them is stale."""
    planned: dict[str, Stage] = {}
    for name, stage in stages.items():
        forced = wanted(name)
        stale = forced or stage.stale or any(planned[needed].stale for needed in stage.needs)
        planned[name] = stage._replace(forced=forced, stale=stale)
    return planned


def asked_to_force(arguments: list[str]) -> Callable[[str], bool]:
    """Return a function of a stage's name: whether Snakemake's command line or profile forces it, by that name or its kind."""
    with redirect_stderr(StringIO()):  # Snakemake has already printed which profiles it uses
        _, flags = parse_args(arguments)
    names = {*flags.forcerun, *(flags.targets if flags.force else ())}
    return lambda stage: flags.forceall or not names.isdisjoint((stage, kind(stage)))


def kind(stage: str) -> str:
    """Return the name of the entry of dvc.yaml that a stage comes from: `pretrain` for `pretrain@rsa-0`."""
    return stage.partition("@")[0]


def _changed(stage: Any) -> bool:
    try:
        return bool(stage.changed())
    except LockError:  # another process is writing its files
        return True
