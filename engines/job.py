"""python -m engines.job STAGE [--force]: a Snakemake job that runs `dvc repro` for one stage and can be stopped gracefully.

SIGTERM (from preemption or a time limit) and Ctrl-C are forwarded to the stage only, which writes a checkpoint and exits with
75 (EX_TEMPFAIL): DVC would die at once and orphan the stage. The job then exits with 75 too; in a Slurm job it first requeues
the job, unless Slurm has requeued or cancelled it already.
"""

import logging
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import NoReturn

import dvc.commands.repro
import dvc.repo.reproduce  # noqa: F401  DVC loads them late, but a fork server is to load them
import psutil
from dvc.cli import main
from dvc.ui import ui
from dvc.utils.serialize import _yaml

from rsa.processes import show_as

TRY_AGAIN = os.EX_TEMPFAIL  # 75


def run(stage: str, *options: str) -> int:
    """Run the stage and return the exit code of the job."""
    incarnation = slurm_state()
    with tempfile.TemporaryDirectory() as folder:
        notes = Path(folder)  # `stop` tells a stage that is still starting; a stopped stage writes `again`

        def stop(*_: object) -> None:
            (notes / "stop").touch()
            if "SLURM_JOB_ID" not in os.environ:  # Slurm signals every process itself
                for process in psutil.Process().children(recursive=True):
                    process.terminate()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        fork = os.fork()  # which keeps the device locks if this process is killed
        if fork == 0:
            os.environ["JOB_NOTES"] = folder
            _be_dvc("--wait-for-lock", "repro", "--single-item", *options, stage)  # not --quiet, which hides DVC's errors
        code = os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1])
        if code == 0 or not any(notes.iterdir()):
            return code
    if incarnation.startswith("RUNNING") and slurm_state() == incarnation:  # neither requeued nor cancelled
        subprocess.run(["scontrol", "requeue", os.environ["SLURM_JOB_ID"]])
    return TRY_AGAIN


def _be_dvc(*arguments: str) -> NoReturn:
    """Run DVC's command line in this process, and end it. DVC and its shell ignore signals; the stage sets its own handlers."""
    code = 255
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        show_as("dvc")
        for name in ("dvc.repo.scm_context", "dvc.dvcfile"):  # no nine lines on dvc.lock and `git add` after each job
            logging.getLogger(name).setLevel(logging.WARNING)
        ui.enable = lambda: None  # nor one on `dvc push`
        # `repro` changes no YAML but dvc.lock, which has no comments: the parser that keeps them takes four times as long
        _yaml.parse_yaml_for_update = _yaml.parse_yaml
        code = main([*arguments])
    except BaseException:  # nothing of the job may go on in this process
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def slurm_state() -> str:
    """Return Slurm's state and start time of this job; empty outside of Slurm."""
    if "SLURM_JOB_ID" not in os.environ:
        return ""
    command = ["squeue", "--noheader", "--jobs", os.environ["SLURM_JOB_ID"], "--format=%T %S"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(run(*sys.argv[1:]))
