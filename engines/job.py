"""python -m engines.job STAGE [--force]: a Snakemake job that runs `dvc repro` for one stage and can be stopped gracefully.

SIGTERM (from preemption or a time limit) and Ctrl-C are forwarded to the stage only, which writes a checkpoint and exits with
75 (EX_TEMPFAIL): DVC would die at once and orphan the stage. The job then exits with 75 too; in a Slurm job it first requeues
the job, unless Slurm has requeued or cancelled it already.
"""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil

TRY_AGAIN = 75  # sysexits' EX_TEMPFAIL


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
        dvc = subprocess.Popen(
            ["dvc", "--wait-for-lock", "repro", "--single-item", *options, stage],  # not --quiet, which hides DVC's errors
            env=os.environ | {"JOB_NOTES": folder},
            preexec_fn=ignore_signals,
            close_fds=False,  # DVC keeps the device locks if this process is killed
        )
        code = dvc.wait()
        if code == 0 or not any(notes.iterdir()):
            return code
    if incarnation.startswith("RUNNING") and slurm_state() == incarnation:  # neither requeued nor cancelled
        subprocess.run(["scontrol", "requeue", os.environ["SLURM_JOB_ID"]])
    return TRY_AGAIN


def ignore_signals() -> None:
    """Ignore the signals in DVC and its shell; the stage sets its own handlers."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def slurm_state() -> str:
    """Return Slurm's state and start time of this job; empty outside of Slurm."""
    if "SLURM_JOB_ID" not in os.environ:
        return ""
    command = ["squeue", "--noheader", "--jobs", os.environ["SLURM_JOB_ID"], "--format=%T %S"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(run(*sys.argv[1:]))
