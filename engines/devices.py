"""python -m engines.devices N COMMAND...: run COMMAND with exclusive use of N GPUs of this host.

Snakemake's `gpu` resource only counts; this makes the devices of jobs on one host disjoint. A device is held by a lock
on a file, which COMMAND inherits, so that the end of COMMAND frees it, a kill -9 included. The file's name has the host,
because nodes may share a TMPDIR, and the Slurm job, because Slurm may call the first device of every job 0.
"""

import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rsa.file_locks import lock
from rsa.hand_over import PLACE, hand_over

WAIT = 0.5  # seconds between looks for free devices


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use: CUDA_VISIBLE_DEVICES, or all that the driver lists."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout
    except FileNotFoundError:
        return []
    return [str(number) for number in range(listed.count("UUID: GPU"))]


def acquire(count: int, gpus: list[str]) -> dict[str, int]:
    """Lock `count` of `gpus` and return each with its lock file's descriptor; wait until enough are free at once."""
    if count > len(gpus):
        raise ValueError(f"a job wants {count} GPUs (meta.gpu in dvc.yaml), and this host has {len(gpus)}")
    while True:  # all or nothing: holding some while waiting could deadlock two jobs
        held: dict[str, int] = {}
        for gpu in gpus:
            if len(held) < count and (handle := _lock(gpu)) is not None:
                held[gpu] = handle
        if len(held) == count:
            return held
        for handle in held.values():
            os.close(handle)
        time.sleep(WAIT)


def _lock(gpu: str) -> int | None:
    name = ["gpu", platform.node(), str(os.getuid()), *filter(None, [os.environ.get("SLURM_JOB_ID")]), gpu.replace("/", "_")]
    return lock(Path(tempfile.gettempdir()) / f"{'-'.join(name)}.lock", wait=False)


def main(arguments: list[str]) -> None:
    """Replace this process by the command, or by a fork that has loaded its libraries."""
    held = acquire(int(arguments[0]), visible_gpus())
    for handle in held.values():
        os.set_inheritable(handle, True)
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(held)
    command = arguments[1:]
    if PLACE in os.environ:
        hand_over(command, os.environ[PLACE])
    os.execvp(command[0], command)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except ValueError as why:
        sys.exit(f"engines.devices: error: {why}")
