"""Trainings that are killed and started again, in this process: what continues is what lies on disk."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch

from rsa.training.checkpoint import Checkpoints

T = TypeVar("T")


class KilledError(Exception):
    """Stands for SIGKILL, which leaves nothing but files."""


class Killing(Checkpoints):
    """Checkpoints every second step, of a process that dies at its fifth step, before it could save it."""

    def __init__(self, folder: Path, taken: int = 0) -> None:
        super().__init__(folder, 2, 60)
        self.taken = taken

    def part(self, name: str) -> Checkpoints:
        return Killing(self.folder / name)

    def due(self, step: int) -> bool:
        self.taken += 1
        if self.taken == 5:
            raise KilledError
        return super().due(step)


def at_once(train: Callable[[Checkpoints], T]) -> T:
    """Return what `train` gives when nothing disturbs it."""
    with tempfile.TemporaryDirectory() as folder:
        return train(Checkpoints(Path(folder), 10**9, 10**9))


def again_and_again(train: Callable[[Checkpoints], T], folder: Path) -> tuple[T, int]:
    """Return what `train` gives at last, and how often it was killed before."""
    for kills in range(1000):
        try:
            return train(Killing(folder)), kills
        except KilledError:
            pass
    raise AssertionError("a training that is killed never ends")


def last_states(folder: Path) -> list[dict[str, Any]]:
    """The newest checkpoint in each folder of a training."""
    folders = sorted({path.parent for path in folder.rglob("*.ckpt")})
    states = [Checkpoints(each, 1, 1).load(torch.device("cpu")) for each in folders]
    return [state for state in states if state is not None]


def equal(a: Any, b: Any) -> bool:
    """Return True if two states are the same to the bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)
