"""Sockets and shared memory between the ranks of one host: for what batch norms tell each other, many small messages, each of
them waited for, and for gradients.

Gloo takes 0.6 ms for a gather of 4 KiB between two busy processes and 1.7 ms for a sum, with threads of its own to wake up
on the way; a socket between the waiting processes themselves takes 0.02 ms (benchmarks/README.md).
"""

import mmap
import os
import socket
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

LARGEST = 32 * 1024  # bytes of a message: sent by all before anyone receives, so it has to fit into a socket's buffer


class Mesh:
    """A socket from this rank to every other one. Every rank makes its mesh at the same time; Linux only."""

    def __init__(self, rank: int, world: int, tell_all: Callable[[Any], list[Any]], seconds: float) -> None:
        """`tell_all` gives every rank's word to all; ConnectionError and TimeoutError (after `seconds`) end any wait."""
        self.rank, self.world = rank, world
        self._memory = torch.empty(0)
        self.others: dict[int, socket.socket] = {}
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(seconds)
            door.bind("\0" + uuid.uuid4().hex)  # a name that is no file, and is gone with the socket
            door.listen(world)
            for other, name in enumerate(tell_all(door.getsockname())):
                if other < rank:
                    self.others[other] = socket.socket(socket.AF_UNIX)
                    self.others[other].connect(name)
                    self.others[other].sendall(rank.to_bytes(4, "big"))
            for _ in range(rank + 1, world):
                line, _ = door.accept()
                self.others[int.from_bytes(line.recv(4), "big")] = line
        for line in self.others.values():
            line.settimeout(seconds)

    def gathered(self, x: Tensor) -> Tensor:
        """(...) on the CPU, of at most LARGEST bytes and of the same shape everywhere -> (ranks, ...) of all of them."""
        everyones = torch.empty(self.world, *x.shape, dtype=x.dtype)
        everyones[self.rank] = x
        parts = [memoryview(part) for part in everyones.view(self.world, -1).view(torch.uint8).numpy()]
        for other, line in self.others.items():
            with _blaming(other, line):
                line.sendall(parts[self.rank])
        for other, line in self.others.items():
            with _blaming(other, line):
                _receive(line, parts[other])
        return everyones

    def average(self, parts: list[Tensor]) -> None:
        """Every part, (N,) on the CPU, of one size and type everywhere, becomes its mean over ranks, summed in their order."""
        sizes = [len(part) for part in parts]
        if self._memory.shape != (self.world, sum(sizes)) or self._memory.dtype != parts[0].dtype:
            self._memory = self._shared(sum(sizes), parts[0].dtype)
        everyones = self._memory
        torch.cat(parts, out=everyones[self.rank])
        self._wait()
        mean, *others = everyones.tensor_split(self.world, dim=1)[self.rank]  # nobody else touches these columns
        for other in others:
            mean += other
        mean /= self.world
        self._wait()
        torch._foreach_copy_(parts, torch.split(everyones[0], sizes))
        self._wait()  # else a faster rank could write its next ones before all have read

    def _shared(self, size: int, dtype: torch.dtype) -> Tensor:
        """(ranks, size), the same memory in every rank; it is gone with the last one."""
        count = self.world * size * dtype.itemsize
        if self.rank == 0:
            handle = os.memfd_create("ranks")
            os.ftruncate(handle, count)
            for other, line in self.others.items():
                with _blaming(other, line):
                    socket.send_fds(line, [b"m"], [handle])
        else:
            with _blaming(0, self.others[0]):
                _, handles, _, _ = socket.recv_fds(self.others[0], 1, 1)
                if not handles:
                    raise ConnectionError
            handle = handles[0]
        memory = mmap.mmap(handle, count)
        os.close(handle)
        return torch.frombuffer(memory, dtype=dtype).view(self.world, size)

    def _wait(self) -> None:
        """For all ranks to come here."""
        self.gathered(torch.zeros((), dtype=torch.uint8))

    def close(self) -> None:
        """End it; others that wait for this rank get a ConnectionError."""
        for line in self.others.values():
            line.close()


@contextmanager
def _blaming(other: int, line: socket.socket) -> Iterator[None]:
    try:
        yield
    except ConnectionError:
        raise ConnectionError(f"rank {other} has gone") from None
    except TimeoutError:
        seconds = line.gettimeout()
        raise TimeoutError(f"rank {other} has said nothing for {seconds:g} s (pretrain.launch.timeout_minutes)") from None


def _receive(line: socket.socket, part: memoryview) -> None:
    while len(part):
        count = line.recv_into(part)
        if count == 0:
            raise ConnectionError
        part = part[count:]


def possible() -> bool:
    """Whether this system has sockets of such names."""
    return sys.platform == "linux"
