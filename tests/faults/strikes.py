"""Kills: which signal, of whom, and when."""

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
WRITING = 0.02  # seconds within which a kill follows the sight of a file


def sighted(folder: Path, pattern: str) -> Callable[[], bool]:
    """Return a function that says whether a file that matches the pattern has come, or was written again, since this call."""
    before = _seen(folder, pattern)
    return lambda: _seen(folder, pattern) - before != set()


def _seen(folder: Path, pattern: str) -> set[tuple[str, int]]:
    seen = set()
    with contextlib.suppress(FileNotFoundError):  # a folder that goes while it is read
        for path in folder.glob(pattern):
            with contextlib.suppress(FileNotFoundError):
                seen.add((str(path), path.stat().st_mtime_ns))
    return seen


def reached(folder: Path, alive: Callable[[], bool], chance: random.Random, seconds: float, sights: Sequence[str]) -> str | None:
    """Wait for a random moment within `seconds`, or while a file is written; its name, or None where the process ended before."""
    sight = chance.choice(["", *sights])
    delay = chance.uniform(0, WRITING if sight else seconds)
    if sight:
        come = sighted(folder, sight)
        while alive() and not come():
            time.sleep(0.0005)
    until = time.monotonic() + delay
    while alive() and time.monotonic() < until:
        time.sleep(0.0005)
    if not alive():
        return None
    return f"while {sight.rpartition('/')[2]} was written" if sight else "at a random moment"


def strike(process: BaseProcess, chance: random.Random) -> str:
    """Send a random signal to a stage or to its whole group; what was done, in words."""
    number, group = chance.choice(SIGNALS), chance.random() < 0.3
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, number)  # it may have no group yet
        if group:
            os.killpg(process.pid, number)
    return f"{number.name} of {'the whole group' if group else 'the stage'}"
