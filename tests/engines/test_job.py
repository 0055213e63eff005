"""A job that is told to stop: its stage ends, DVC is left in order, `try again` is said, and Slurm is asked when it should be."""

import signal
from pathlib import Path

import psutil
import pytest

from engines.job import TRY_AGAIN
from tests.engines.project import PATIENCE, Project, below

STAGE = "pretrain@rsa-0"
JOB = ("python", "-m", "engines.job", STAGE)


def edit(project: Project) -> None:
    project.edit("params.yaml", "start: 0.4", "start: 0.3")


def stopped(project: Project) -> int:
    """The exit code of a job that gets SIGTERM in the middle of its stage."""
    release = project.hold(STAGE)
    job = project.start(*JOB)
    project.wait_until_held(STAGE, job)
    job.send_signal(signal.SIGTERM)
    code = job.wait(PATIENCE)
    release()
    return code


def test_sigterm_ends_the_stage_and_dvc_goes_on(built: Project) -> None:
    edit(built)
    before = built.lock()
    assert stopped(built) == TRY_AGAIN
    assert built.lock() == before
    assert list(built.folder.rglob("*.partial")) == []
    assert (built.folder / ".dvc/tmp/rwlock").read_text() in ("{}", '{"write": {}, "read": {}}')
    built.call(*JOB)  # the next same command
    assert built.dvc("status", STAGE).endswith("up to date.\n")


def test_a_job_of_snakemake_that_is_told_to_stop_fails_and_the_next_run_does_it(built: Project) -> None:
    """On one machine nothing is tried again by itself: whoever stopped a job meant it."""
    edit(built)
    release = built.hold(STAGE)
    run = built.start("snakemake", "--printshellcmds")
    built.wait_until_held(STAGE, run)
    job = next(process for process in below(run) if "engines.job" in process.cmdline())
    job.terminate()
    assert run.wait(PATIENCE) != 0
    release()
    assert built.ran().count(STAGE) == 1
    built.snakemake()
    assert "up to date" in built.dvc("status")


def test_an_error_is_not_tried_again(built: Project) -> None:
    edit(built)
    built.fail(STAGE)
    job = built.start(*JOB)
    assert job.wait(PATIENCE) not in (0, TRY_AGAIN)


@pytest.mark.parametrize(
    ("states", "asked"),
    [
        (("RUNNING 10:00", "RUNNING 10:00"), True),  # a time limit, or the time that a pre-emption leaves
        (("RUNNING 10:00", "COMPLETING 10:00"), False),  # a scancel: it must not come back
        (("RUNNING 10:00", "PENDING 10:09"), False),  # Slurm has queued it again ...
        (("RUNNING 10:00", "RUNNING 10:09"), False),  # ... and started
    ],
)
def test_slurm_is_asked_to_queue_a_running_job_again(
    states: tuple[str, str], asked: bool, built: Project, tmp_path: Path
) -> None:
    edit(built)
    for name, does in (("squeue", f"cat {tmp_path}/state"), ("scontrol", f'echo "$@" > {tmp_path}/asked')):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    built.environment |= {"SLURM_JOB_ID": "42", "PATH": f"{tmp_path}/bin:{built.environment['PATH']}"}
    (tmp_path / "state").write_text(states[0])
    release = built.hold(STAGE)
    job = built.start(*JOB)
    built.wait_until_held(STAGE, job)
    (tmp_path / "state").write_text(states[1])
    for process in reversed([*below(job), psutil.Process(job.pid)]):  # as Slurm does: everyone is told
        process.terminate()
    assert job.wait(PATIENCE) == TRY_AGAIN
    release()
    assert (tmp_path / "asked").exists() == asked
    if asked:
        assert (tmp_path / "asked").read_text() == "requeue 42\n"


def test_the_reason_of_dvc_is_printed_last(built: Project) -> None:
    """DVC's own errors, such as raw data that is not there, have no other way to be seen."""
    built.remove("raw/photo_tiles")
    printed = built.call("python", "-m", "engines.job", "shard@photo_tiles", fails=True)
    reason = next(line for line in printed.splitlines() if line.startswith("ERROR: "))
    assert "raw/photo_tiles" in reason


def test_snakemake_validates_all_of_params_before_anything_runs(built: Project) -> None:
    """Also a section that DVC does not look at, because no stage names it."""
    path = built.folder / "params.yaml"
    path.write_text(path.read_text() + "robustnes: {}\n")
    printed = built.call("snakemake", "--dry-run", fails=True)
    assert "robustnes" in printed
    assert "Traceback" not in printed
    assert built.ran() == []


def test_both_engines_look_for_raw_data_before_anything_runs(written: Project) -> None:
    """A line for each, with its key and the names that are near; nothing is planned."""
    (written.folder / "raw/digits").rename(written.folder / "raw/digitz")
    said = "params.yaml: datasets.digits.raw: raw/digits does not exist (did you mean digitz?): put it there, or correct the key"
    printed = written.snakemake("--dry-run", fails=True)
    assert said in printed
    assert not {"Job stats:", "Traceback"} & set(printed.splitlines())
    assert f"code: error: {said}" in written.dvc("repro", fails=True).splitlines()
    assert written.ran() == []
