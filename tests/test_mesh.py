"""Messages between real processes, and what a rank sees of another one that has ended or hangs."""

import multiprocessing
import os
import time
from collections.abc import Callable
from multiprocessing.managers import SyncManager
from typing import Any

import pytest
import torch
from torch import Tensor

from rsa.mesh import LARGEST, Mesh

spawn = multiprocessing.get_context("spawn")
PATIENCE, SHORT = 60.0, 2.0  # seconds; the short one only where a rank is to give up


def rank_of(rank: int, world: int, meeting: Any, barrier: Any, body: Callable[[Mesh], Any], answers: Any) -> None:
    def tell_all(word: Any) -> list[Any]:
        meeting[rank] = word
        barrier.wait(60)
        return [meeting[other] for other in range(world)]

    mesh = Mesh(rank, world, tell_all, PATIENCE)
    try:
        answers.put((rank, body(mesh)))
    except OSError as why:
        answers.put((rank, f"{type(why).__name__}: {why}"))
    mesh.close()


def run(world: int, body: Callable[[Mesh], Any]) -> dict[int, Any]:
    """What every rank's `body` returns, or its error; ranks that end by themselves answer nothing."""
    manager: SyncManager
    with spawn.Manager() as manager:
        meeting, barrier, answers = manager.dict(), manager.Barrier(world), manager.Queue()
        ranks = [spawn.Process(target=rank_of, args=(rank, world, meeting, barrier, body, answers)) for rank in range(world)]
        for process in ranks:
            process.start()
        for process in ranks:
            process.join(60)
            assert process.exitcode is not None, "a rank hangs"
        return dict(answers.get() for _ in range(answers.qsize()))


def of(rank: int, round: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(100 * round + rank)).to(dtype)


SHAPES = [((), torch.bool), ((3, 5), torch.float64), ((2, 7), torch.bfloat16), ((LARGEST,), torch.int8)]


def gathers(mesh: Mesh) -> list[list[float]]:
    """Many messages in a row, some of the largest size, some ranks late."""
    found = []
    for round in range(200):
        shape, dtype = SHAPES[round % len(SHAPES)]
        if round % 50 == mesh.rank:
            time.sleep(0.05)
        everyones = mesh.gathered(of(mesh.rank, round, shape, dtype))
        assert everyones.dtype == dtype
        found.append(everyones.double().flatten().tolist())
    return found


@pytest.mark.parametrize("world", [2, 4])
def test_every_rank_gets_everyones_message_in_the_order_of_ranks(world: int):
    want = []
    for round in range(200):
        shape, dtype = SHAPES[round % len(SHAPES)]
        want.append(torch.stack([of(rank, round, shape, dtype) for rank in range(world)]).double().flatten().tolist())
    assert run(world, gathers) == dict.fromkeys(range(world), want)


def averages(mesh: Mesh) -> list[list[float]]:
    """Of other sizes and types each few rounds, as when a layer no longer rests."""
    found = []
    for round in range(12):
        dtype = torch.float64 if round > 6 else torch.float32
        parts = [of(mesh.rank, 10 * round + size, (size,), dtype) for size in (1, 1000, 37 + round // 3)]
        if round % 4 == mesh.rank:
            time.sleep(0.05)
        mesh.average(parts)
        found.append(torch.cat(parts).double().tolist())
    return found


@pytest.mark.parametrize("world", [2, 3])
def test_averages_are_summed_in_the_order_of_ranks_and_the_same_everywhere(world: int):
    want = []
    for round in range(12):
        dtype = torch.float64 if round > 6 else torch.float32
        sums = []
        for size in (1, 1000, 37 + round // 3):
            total = of(0, 10 * round + size, (size,), dtype)
            for rank in range(1, world):
                total = total + of(rank, 10 * round + size, (size,), dtype)
            sums.append(total / world)
        want.append(torch.cat(sums).double().tolist())
    assert run(world, averages) == dict.fromkeys(range(world), want)


def last_one_ends(mesh: Mesh) -> Any:
    if mesh.rank == mesh.world - 1:
        os._exit(0)
    return mesh.gathered(torch.zeros(3)).tolist()


def test_a_rank_that_has_gone_is_named_at_once():
    assert run(2, last_one_ends) == {0: "ConnectionError: rank 1 has gone"}


def last_one_hangs(mesh: Mesh) -> Any:
    if mesh.rank == mesh.world - 1:
        while mesh.others[0].recv(1000):  # says nothing until the other one has given up
            pass
        return "left alone"
    mesh.others[1].settimeout(SHORT)
    return mesh.gathered(torch.zeros(3)).tolist()


def test_a_rank_that_hangs_is_named_when_the_time_is_over():
    found = run(2, last_one_hangs)
    assert found == {0: "TimeoutError: rank 1 has said nothing for 2 s (pretrain.launch.timeout_minutes)", 1: "left alone"}
