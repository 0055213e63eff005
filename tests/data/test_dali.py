"""Decoding and buffers on a GPU: shown on stand-ins for its queue and DALI's buffers, and on a GPU where there is one."""

import contextlib
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from nvidia.dali import fn

from rsa.data import dali, decoding

BATCHES = 12


class Queue:
    """A GPU's stream: work is done `behind` submissions later, or when somebody waits for it."""

    def __init__(self, behind: int) -> None:
        self.behind, self.work = behind, deque[Callable[[], None]]()

    def submit(self, work: Callable[[], None]) -> None:
        self.work.append(work)
        while len(self.work) > self.behind:
            self.work.popleft()()

    def event(self) -> "Event":
        return Event(self)


class Event:
    """torch.cuda.Event, of a queue."""

    def __init__(self, queue: Queue) -> None:
        self.queue, self.passed = queue, False

    def record(self) -> None:
        self.queue.submit(lambda: setattr(self, "passed", True))

    def query(self) -> bool:
        return self.passed

    def synchronize(self) -> None:
        while not self.passed:
            self.queue.work.popleft()()


class Buffer:
    """An output of DALI, which another batch overwrites once nobody holds it; kernels that read it have its memory alone."""

    is_cuda = True

    def __init__(self, queue: Queue, value: int) -> None:
        self.queue, self.memory = queue, np.full(4, value)
        weakref.finalize(self, self.memory.fill, -1)

    def clone(self) -> np.ndarray:
        memory, copy = self.memory, np.zeros(4, int)
        self.queue.submit(lambda: np.copyto(copy, memory))
        return copy


def seen(copies: Callable[[list[Any]], list[Any]], queue: Queue) -> list[list[int]]:
    """Return what a consumer has of each batch when the queue is done."""
    with copies if isinstance(copies, dali.Copies) else contextlib.nullcontext():
        got = [copies([Buffer(queue, value), Buffer(queue, value)]) for value in range(BATCHES)]
    while queue.work:
        queue.work.popleft()()
    return [sorted({int(pixel) for copy in batch for pixel in copy}) for batch in got]


@pytest.mark.parametrize("behind", [0, 1, 5, 1000])
def test_a_buffer_is_not_written_while_a_delayed_consumer_still_reads_it(behind: int):
    queue = Queue(behind)
    copies = dali.Copies(queue.event)
    assert seen(copies, queue) == [[value] for value in range(BATCHES)]
    assert not copies.held


def test_without_an_event_a_delayed_consumer_would_read_another_batch():
    """The stand-in shows the fault that is prevented."""
    queue = Queue(5)
    assert seen(lambda buffers: [buffer.clone() for buffer in buffers], queue) != [[value] for value in range(BATCHES)]


def test_tensors_of_the_cpu_are_handed_on():
    tensors = [torch.zeros(2)]
    assert dali.Copies()(tensors)[0] is tensors[0]


def test_the_decoder_of_a_gpu_leaves_no_image_to_hardware_that_decodes_a_share_of_a_batch(monkeypatch: pytest.MonkeyPatch):
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(fn.decoders, "image", lambda encoded, **settings: asked.append(settings))
    decoding.decode(None, None)
    decoding.decode(None, 0)
    cpu, gpu = asked
    assert gpu == cpu | {"device": "mixed", "hw_decoder_load": 0.0, "jpeg_fancy_upsampling": True}
