"""Damaged files of unfinished work, of unrecorded results and of inputs: never another result, never a traceback."""

import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.faults.conftest import Count
from tests.faults.files import FLIPPED, KINDS, damage
from tests.faults.stages import FLAGS, INTERVAL, MANIFEST, Pipeline, ended
from tests.faults.test_disks import one_line

pytestmark = pytest.mark.faults

WORK = {"pretrain": "*/*/*.ckpt", "linear": "**/*.ckpt", "finetune": "**/*.ckpt", "shard": "*/*/train/000*.*"}
BESIDE = {"pretrain": ("*/*/curve.csv", "*/*/snapshots/*")}  # files that belong to a checkpoint
CHECKED = (".tar", ".npy")  # a bit that flips in another file is DVC's to find (test_engines.py)
INPUTS = {  # of each stage
    "pretrain": ("data/shards/digits/train/000000.tar", "data/shards/digits/train/index.npy", MANIFEST),
    "extract": (FLAGS["extract"]["encoder"], "data/shards/digits/test/000001.tar", "data/shards/digits/test/index.npy", MANIFEST),
    "probe": ("features/byol/s0/digits/train.npy", "features/byol/s0/digits/test_labels.npy"),
    "transfer": ("features/byol/s0/digits/test.npy", "features/byol/s0/digits/train_labels.npy"),
    "report": ("code/experiment.yaml",),
}
READ = [(stage, name) for stage, names in INPUTS.items() for name in names]


@pytest.mark.parametrize("case", range(3))
@pytest.mark.parametrize("stage", WORK)
def test_unfinished_work(
    stage: str, case: int, undisturbed: Pipeline, tmp_path: Path, chance: random.Random, count: Count
) -> None:
    """A damaged checkpoint costs one interval, a damaged shard that shard."""
    here = undisturbed.copy(tmp_path / "project").without(stage)
    process = here.start(stage)
    work = here.folder / ".work" / stage
    while process.is_alive() and len(list(work.glob(WORK[stage]))) < 2:
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    ended(process)
    patterns = (WORK[stage], *BESIDE.get(stage, ()))
    files = sorted(file for pattern in patterns for file in work.glob(pattern) if file.stat().st_size)
    assert files, "nothing to damage"
    newest = here.newest_checkpoint()
    file = chance.choice(files)
    how = damage(file, chance)
    here.complete(stage)
    if stage == "pretrain" and file.suffix != ".safetensors":  # a snapshot is made by its step alone
        assert here.continued() >= newest - INTERVAL
    assert here.result(stage) == undisturbed.result(stage)
    assert here.left() == []
    count(f"{stage}: unfinished work {how}")


@pytest.mark.parametrize("case", range(2))
@pytest.mark.parametrize("stage", ["pretrain", "shard", "finetune"])
def test_a_finished_result_that_was_not_recorded(
    stage: str, case: int, undisturbed: Pipeline, tmp_path: Path, chance: random.Random, count: Count
) -> None:
    here = undisturbed.copy(tmp_path / "project").without(stage)
    here.complete(stage)
    shutil.rmtree(here.folder / FLAGS[stage]["out"])  # as DVC does before it runs the stage again
    files = sorted(file for file in (here.folder / ".work" / stage).rglob("*") if file.is_file() and file.stat().st_size)
    how = damage(chance.choice(files), chance)
    here.complete(stage)
    assert here.result(stage) == undisturbed.result(stage)
    count(f"{stage}: finished result {how}")


@pytest.mark.parametrize(("stage", "name"), READ)
def test_an_input(stage: str, name: str, undisturbed: Pipeline, tmp_path: Path, chance: random.Random, count: Count) -> None:
    here = undisturbed.copy(tmp_path / "project").without(stage)
    file = here.folder / name
    content = file.read_bytes()
    for kind in (kind for kind in KINDS if kind != FLIPPED or name.endswith(CHECKED)):
        damage(file, chance, (kind,))
        code, printed = here.run(stage)
        if code:
            one_line(printed, code, stage, Path(name).parent.name)
        else:  # what was damaged is read by nobody
            assert here.result(stage) == undisturbed.result(stage)
        file.write_bytes(content)
        count(f"{stage}: {file.suffix} {kind}")
    here.without(stage).complete(stage)
    assert here.result(stage) == undisturbed.result(stage)
