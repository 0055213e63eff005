"""Time on a device, and the switches of its arithmetic."""

import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import torch
from torch.utils import deterministic

T = TypeVar("T")


class Stopwatch:
    """Marks in the work that is queued on a device; nothing waits until the laps between them are asked for."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.marks: list[Any] = []

    def mark(self) -> None:
        """Mark what is queued next."""
        if self.device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self.marks.append(event)
        else:
            self.marks.append(time.perf_counter())

    def before_each(self, items: Iterable[T]) -> Iterator[T]:
        """Mark before each item is handed over."""
        for item in items:
            self.mark()
            yield item

    def laps(self) -> list[float]:
        """Wait for the last mark; return the seconds from each mark to the next."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            return [a.elapsed_time(b) / 1000 for a, b in zip(self.marks, self.marks[1:], strict=False)]
        return [b - a for a, b in zip(self.marks, self.marks[1:], strict=False)]


def arithmetic(*, strict: bool = True, tf32: bool | None = None, autotune: bool = False) -> None:
    """Set deterministic algorithms, TF32 (None: torch's defaults) and cuDNN's search for the fastest algorithm.

    The defaults are what a run has that `rsa.training.device.setup` has set up.
    """
    torch.use_deterministic_algorithms(strict)
    deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = autotune
    torch.backends.cudnn.allow_tf32 = tf32 is not False
    torch.backends.cuda.matmul.allow_tf32 = tf32 is True
