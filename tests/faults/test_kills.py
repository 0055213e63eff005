"""Stages that are killed again and again until they are done: the result is that of an undisturbed run."""

import random
import signal
from pathlib import Path

import psutil
import pytest

from tests.faults.conftest import Count
from tests.faults.stages import FLAGS, INTERVAL, Pipeline, ended
from tests.faults.strikes import reached, strike

pytestmark = pytest.mark.faults

KILLS = 10  # of one case
CASES = {"pretrain": 4, "linear": 2, "finetune": 2, "shard": 3, "extract": 2}  # of other stages one
OF_RANKS = 6  # kills of runs of two ranks
SIGHTS = {  # what is being written when a kill comes, besides kills at any moment
    "pretrain": (".work/pretrain/*/*/*.partial", ".work/pretrain/*/*/snapshots/*", "runs/byol/.s0.partial/*"),
    "linear": (".work/linear/**/*.partial",),
    "finetune": (".work/finetune/**/*.partial",),
    "shard": (".work/shard/*/*/*/*.tar", ".work/shard/*/*/*/*.json", "data/shards/.digits.partial/digits/*/*"),
    "report": (".reports.partial/reports/figures/*",),
}
ALL = [(stage, case) for stage in FLAGS if stage != "code" for case in range(CASES.get(stage, 1))]


@pytest.mark.parametrize(("stage", "case"), ALL)
def test_a_stage_survives_kills(
    stage: str, case: int, undisturbed: Pipeline, tmp_path: Path, chance: random.Random, count: Count
) -> None:
    here = undisturbed.copy(tmp_path / "project").without(stage)
    kills = 0
    while kills < KILLS:
        kills += killed_until_done(here, stage, KILLS - kills, chance, count)
        assert here.result(stage) == undisturbed.result(stage)
        assert here.left() == []
        here.without(stage)


def killed_until_done(here: Pipeline, stage: str, limit: int, chance: random.Random, count: Count) -> int:
    """Kill a stage up to `limit` times, then let it end; how often it was killed."""
    kills = newest = 0
    while True:
        process = here.start(stage)
        moment = None
        if kills < limit:
            moment = reached(here.folder, process.is_alive, chance, 1.2 * here.seconds[stage], SIGHTS.get(stage, ()))
        if moment is None:
            ended(process)
            assert process.exitcode == 0, f"{stage} exits with {process.exitcode}:\n{here.printed.read_text()}"
            return kills
        what = strike(process, chance)
        ended(process)
        if stage == "pretrain":
            newest = nothing_lost(here, newest)
        kills += 1
        count(f"{stage}: {what}, {moment}")


def nothing_lost(here: Pipeline, newest: int) -> int:
    """Check that a killed run continued at its newest checkpoint, and return which is the newest now."""
    now = here.newest_checkpoint()
    if here.printed.exists() and "finished by an earlier run" not in here.printed.read_text():
        assert here.continued() in (newest, 0)  # it may have been killed before it said so
    if (here.folder / ".work/pretrain").exists() and now:
        assert now >= newest
    stopped = "stopped after step" in here.printed.read_text()  # and has written a checkpoint there
    assert stopped or now == newest or now % INTERVAL == 0
    return now


def test_a_run_of_two_ranks_survives_kills(undisturbed: Pipeline, tmp_path: Path, chance: random.Random, count: Count) -> None:
    """Kill a rank, which the launcher starts again, the launcher, or all of them."""
    here = undisturbed.copy(tmp_path / "project").without("pretrain")
    here.edit({"runtime.processes": 2, "runtime.timeout_minutes": 1})
    here.complete("pretrain")
    want = here.result("pretrain")
    here.without("pretrain")
    for _ in range(OF_RANKS):
        process = here.start("pretrain")
        moment = reached(here.folder, process.is_alive, chance, 2 * here.seconds["pretrain"] + 8, SIGHTS["pretrain"][:2])
        if moment is None:
            ended(process)
            assert process.exitcode == 0, here.printed.read_text()
            assert here.result("pretrain") == want
            here.without("pretrain")
            continue
        ranks = [child for child in psutil.Process(process.pid).children() if "spawn_main" in " ".join(child.cmdline())]
        if ranks and chance.random() < 0.5:
            chance.choice(ranks).send_signal(signal.SIGKILL)
            what = "SIGKILL of a rank"
            ended(process)
            assert process.exitcode == 0, here.printed.read_text()  # the launcher has started both ranks again
            assert here.result("pretrain") == want
            here.without("pretrain")
        else:
            what = strike(process, chance)
            ended(process)
        count(f"pretrain, two ranks: {what}, {moment}")
    here.complete("pretrain")
    assert here.result("pretrain") == want
