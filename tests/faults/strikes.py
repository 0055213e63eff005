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
LOOK = 0.002  # seconds between two looks


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
    """Wait for a random moment within `seconds`, or until a file is written; its name, or None where the process ended before."""
    sight = chance.choice(["", *sights])
    come = sighted(folder, sight) if sight else lambda: False
    until = time.monotonic() + (seconds if sight else chance.uniform(0, seconds))
    seen = False
    while alive() and not seen and time.monotonic() < until:
        time.sleep(LOOK)
        seen = come()
    if seen:
        time.sleep(chance.uniform(0, WRITING))
    if not alive():
        return None
    return f"while {sight.rpartition('/')[2]} was written" if seen else "at a random moment"


def strike(process: BaseProcess, chance: random.Random) -> str:
    """Send a random signal to a stage or to its whole group; what was done, in words."""
    number, group = chance.choice(SIGNALS), chance.random() < 0.3
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, number)  # it may have no group yet
        if group:
            os.killpg(process.pid, number)
    return f"{number.name} of {'the whole group' if group else 'the stage'}"
