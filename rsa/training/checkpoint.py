"""Checkpoints: a run that was killed at any moment continues to the bit.

The file is the sha256 of what follows, a newline, and a torch archive. It is written beside, synced and renamed, so that a
kill leaves the old one whole; the last two are kept, and a damaged one is passed over, loudly.
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
    """SIGTERM came and a checkpoint was written: sysexits' EX_TEMPFAIL, `try again`."""

    code = 75


class Checkpoints:
    """The checkpoints of one run in `folder`, one every `steps` or `minutes`, whichever comes first."""

    def __init__(self, folder: Path, steps: int, minutes: float) -> None:
        self.folder, self.steps, self.seconds = folder, steps, 60 * minutes
        self.written = time.monotonic()
        folder.mkdir(parents=True, exist_ok=True)
        for partial in folder.glob("*.partial"):
            partial.unlink(missing_ok=True)

    def due(self, step: int) -> bool:
        """Whether it is time for one after `step`."""
        return step % self.steps == 0 or time.monotonic() - self.written > self.seconds

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write the state after `step`, atomically."""
        path = self.folder / f"step_{step:010d}.ckpt"
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            file.write(b"0" * hashlib.sha256().digest_size * 2 + b"\n")  # its place
            archive = _Hashed(file)
            torch.save(state, archive)  # type: ignore[arg-type]  # as it goes: no copy of all in memory
            file.seek(0)
            file.write(archive.sha256.hexdigest().encode())
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
        _sync(self.folder)
        for old in sorted(self.folder.glob("*.ckpt"))[:-KEPT]:
            old.unlink()
        self.written = time.monotonic()

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """The newest state that is whole; None where there is none."""
        for path in sorted(self.folder.glob("*.ckpt"), reverse=True):
            try:
                digest, _, archive = path.read_bytes().partition(b"\n")
            except FileNotFoundError:  # another rank has found it damaged
                continue
            if hashlib.sha256(archive).hexdigest().encode() == digest:
                state: dict[str, Any] = torch.load(io.BytesIO(archive), map_location=device, weights_only=True)
                return state
            print(
                f"WARNING: {path} is damaged (its sha256 differs): the checkpoint before it is used", file=sys.stderr, flush=True
            )
            path.unlink(missing_ok=True)
        return None


class _Hashed(io.RawIOBase):
    """A file to write to, and the sha256 of what was written."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.sha256 = file, hashlib.sha256()

    def write(self, part: Any) -> int:
        self.sha256.update(part)
        return self.file.write(part)


def training_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Everything of a run that moves: weights, statistics, momenta, random number generators."""
    generators = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        generators["cuda"] = torch.cuda.get_rng_state()
    everyones = distributed.all_gather_object(generators)
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "generators": everyones}


def load_training_state(state: dict[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put back what was `captured`."""
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    everyones = state["generators"]
    if len(everyones) == distributed.world_size():  # else the run continues, not to the bit where something is dropped at random
        mine = everyones[distributed.rank()]
        torch.set_rng_state(mine["cpu"].cpu())
        if "cuda" in mine:
            torch.cuda.set_rng_state(mine["cuda"].cpu())


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def catch_signals() -> Iterator[Callable[[], bool]]:
    """Note SIGTERM and Ctrl-C instead of ending the process; the function that is given says whether one came."""
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
