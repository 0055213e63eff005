"""python -m engines.job STAGE: a job of the Snakefile, `dvc repro` of one stage, that can be told to stop.

SIGTERM (a pre-emption, a time limit that draws near) and Ctrl-C reach the stage alone, which writes a checkpoint and exits with
75: DVC would die of them at once and leave the stage behind. Then this ends with 75 too, `try again`; in a Slurm job it first
asks Slurm to queue the job again, where Slurm is not about to do so itself.
"""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil

TRY_AGAIN = 75  # sysexits' EX_TEMPFAIL


def run(stage: str) -> int:
    """The exit code of the job."""
    incarnation = slurm_state()
    with tempfile.TemporaryDirectory() as folder:
        notes = Path(folder)  # a stage that is still starting finds `stop`; one that was stopped leaves `again`

        def stop(*_: object) -> None:
            (notes / "stop").touch()
            if "SLURM_JOB_ID" not in os.environ:  # Slurm has told every process
                for process in psutil.Process().children(recursive=True):
                    process.terminate()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        dvc = subprocess.Popen(
            ["dvc", "--wait-for-lock", "repro", "--quiet", "--single-item", stage],
            env=os.environ | {"JOB_NOTES": folder},
            preexec_fn=ignore_signals,
            close_fds=False,  # it keeps the locks of its devices if this process is killed
        )
        code = dvc.wait()
        if code == 0 or not any(notes.iterdir()):
            return code
    if incarnation.startswith("RUNNING") and slurm_state() == incarnation:  # neither queued again already nor cancelled
        subprocess.run(["scontrol", "requeue", os.environ["SLURM_JOB_ID"]])
    return TRY_AGAIN


def ignore_signals() -> None:
    """For DVC and its shell; the stage sets a handler of its own."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def slurm_state() -> str:
    """What Slurm says of this job, and since when it has run; empty outside of Slurm."""
    if "SLURM_JOB_ID" not in os.environ:
        return ""
    command = ["squeue", "--noheader", "--jobs", os.environ["SLURM_JOB_ID"], "--format=%T %S"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(run(sys.argv[1]))
