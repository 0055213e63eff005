"""Processes that measure, as the one that starts them sees them; it never imports torch."""

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.gpu_rows.setting import Measurement, Setting

SPAWN = multiprocessing.get_context("spawn")  # a process that has used CUDA must not be forked
START = 90.0  # seconds that a process may take to import torch and start CUDA, or to write shards
DONE = "done"


class Worker:
    """A process that measures rows."""

    def __init__(self, setting: Setting) -> None:
        self.line, theirs = SPAWN.Pipe()
        self.process = SPAWN.Process(target=_serve, args=(theirs, setting))
        self.process.start()
        theirs.close()

    def machine(self) -> str:
        """Wait until the process is ready; return the name of its device. RuntimeError if it does not start."""
        started, words = self._received(START)
        if not started:
            raise RuntimeError(f"no process that measures: {words}")
        return words

    def measure(self, row: str, seconds: float) -> Iterator[Measurement | str]:
        """Yield what a row measures, and at the end DONE or what went wrong."""
        with suppress(ConnectionError):  # the process is gone, as its answer will say
            self.line.send(row)
        deadline = time.monotonic() + seconds
        while isinstance(found := self._received(deadline - time.monotonic())[1], Measurement):
            yield found
        yield found

    def _received(self, seconds: float) -> tuple[bool, Any]:
        """Return whether something was received and what, or why not."""
        try:
            if self.line.poll(max(0.0, seconds)):
                return True, self.line.recv()
            return False, "it took longer than it may"
        except (EOFError, ConnectionError):
            self.process.join()
            return False, f"the process ended with exit code {self.process.exitcode}"

    def stop(self) -> None:
        """End the process, which may be busy."""
        with suppress(ConnectionError):
            self.line.send("")
        self.process.join(3)
        self.process.kill()
        self.process.join()


def shards_written(setting: Setting) -> str:
    """Write the shards that rows with DALI read; return DONE or what went wrong."""
    process = SPAWN.Process(target=_make_shards, args=(setting,))
    process.start()
    process.join(START)
    process.kill()
    return DONE if process.exitcode == 0 else f"the process ended with exit code {process.exitcode}"


def _serve(line: Connection, setting: Setting) -> None:
    from benchmarks.gpu_rows import worker  # imports torch

    worker.serve(line, setting)


def _make_shards(setting: Setting) -> None:
    from benchmarks.gpu_rows import worker

    worker.make_shards(setting)
