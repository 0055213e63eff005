"""Checkpoints: a run killed at any moment resumes bit-identically.

A file holds the sha256 of the rest, a newline and a torch archive. It is written under a temporary name, synced and renamed,
so a kill never damages an existing checkpoint. The last two are kept; a damaged one is skipped with a warning.
"""

import hashlib
import io
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import nn

from rsa import distributed

KEPT = 2


class Preempted(SystemExit):
    """The exit after a signal and a checkpoint; its code says "try again"."""

    code = os.EX_TEMPFAIL


class Checkpoints:
    """The checkpoints of one run in `folder`, written every `steps` or `minutes`, whichever comes first."""

    def __init__(self, folder: Path, steps: int, minutes: float) -> None:
        self.folder, self.steps, self.seconds = folder, steps, 60 * minutes
        self.written = time.monotonic()
        folder.mkdir(parents=True, exist_ok=True)
        for partial in folder.glob("*.partial"):
            partial.unlink(missing_ok=True)

    def part(self, name: str) -> "Checkpoints":
        """Return the checkpoints of a part of the run, in a folder of their own."""
        return Checkpoints(self.folder / name, self.steps, self.seconds / 60)

    def due(self, step: int) -> bool:
        """Return True if this process, which trains alone, should write a checkpoint after `step`."""
        return self.at(step) or self.late()

    def at(self, step: int) -> bool:
        """Return True if `step` is one after which a checkpoint is written, on every rank."""
        return step % self.steps == 0

    def late(self) -> bool:
        """Return True if the last checkpoint is older than the interval, by this process's clock."""
        return time.monotonic() - self.written > self.seconds

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write the state after `step`, atomically."""
        path = self.folder / f"step_{step:010d}.ckpt"
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            file.write(b"0" * hashlib.sha256().digest_size * 2 + b"\n")  # placeholder of the digest
            archive = _Hashed(file)
            try:
                torch.save(state, archive)  # type: ignore[arg-type]  # hashed while written: no copy in memory
            except RuntimeError as why:  # of torch, whose archive is not whole because of a full disk
                if isinstance(why.__context__, OSError):
                    raise why.__context__ from None
                raise
            file.seek(0)
            file.write(archive.sha256.hexdigest().encode())
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
        _sync(self.folder)
        for old in sorted(self.folder.glob("*.ckpt"))[:-KEPT]:
            old.unlink()
        self.written = time.monotonic()

    def load(self, device: torch.device, usable: Callable[[dict[str, Any]], bool] = lambda state: True) -> dict[str, Any] | None:
        """Return the newest undamaged state for which `usable` is true, or None; newer ones are removed with a warning.

        `usable` says whether the files that belong to a state are there.
        """
        for path in sorted(self.folder.glob("*.ckpt"), reverse=True):
            try:
                digest, _, archive = path.read_bytes().partition(b"\n")
            except FileNotFoundError:  # another rank has removed it as damaged
                continue
            why = "is damaged (its sha256 differs)"
            if hashlib.sha256(archive).hexdigest().encode() == digest:
                state: dict[str, Any] = torch.load(io.BytesIO(archive), map_location=device, weights_only=True)
                if usable(state):
                    return state
                why = "has files beside it that are missing or damaged"
            print(f"WARNING: {path} {why}: the checkpoint before it is used", file=sys.stderr, flush=True)
            path.unlink(missing_ok=True)
        return None


class _Hashed(io.RawIOBase):
    """A writable file that hashes what is written to it."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.sha256 = file, hashlib.sha256()

    def write(self, part: Any) -> int:
        self.sha256.update(part)
        return self.file.write(part)


def training_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return the mutable state of a run: weights, statistics, momenta, random number generators."""
    generators = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        generators["cuda"] = torch.cuda.get_rng_state()
    all_generators = distributed.all_gather_object(generators)
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "generators": all_generators}


def load_training_state(state: dict[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Restore the state that `training_state` returned."""
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    all_generators = state["generators"]
    if len(all_generators) == distributed.world_size():  # else the run resumes, but dropout draws other numbers
        generators = all_generators[distributed.rank()]
        torch.set_rng_state(generators["cpu"].cpu())
        if "cuda" in generators:
            torch.cuda.set_rng_state(generators["cuda"].cpu())


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def catch_signals() -> Iterator[Callable[[], bool]]:
    """Record SIGTERM and Ctrl-C instead of exiting; yields a function that returns True once one has arrived."""
    came = False

    def note(*_: object) -> None:
        nonlocal came
        came = True

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
