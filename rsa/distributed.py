"""Collective operations between the ranks of a run. Without a process group there is one rank and they do nothing."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")

_gather_into = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor  # the newer name, the older name


def rank() -> int:
    """Return the rank of this process."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def _all_gather(x: Tensor) -> Tensor:
    """Concatenate the contiguous tensors (B, ...) of all ranks, with one collective call and no copy."""
    gathered = x.new_empty(world_size() * len(x), *x.shape[1:])
    _gather_into(gathered, x)
    return gathered


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        return _all_gather(x)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous()
        dist.all_reduce(total)  # the loss of every rank depends on this rank's embeddings
        return total.chunk(world_size())[rank()]


def all_gather_with_grad(x: Tensor) -> Tensor:
    """Concatenate the tensors (B, ...) of all ranks in rank order; the gradient is summed over ranks."""
    return _Gathered.apply(x.contiguous()) if world_size() > 1 else x


@torch.no_grad()
def all_gather_stack(x: Tensor) -> Tensor:
    """Stack the (small) tensors of all ranks, without gradient: (...) -> (ranks, ...)."""
    return x[None] if world_size() == 1 else _all_gather(x.flatten()).view(world_size(), *x.shape)


def all_reduce_mean(x: Tensor) -> Tensor:
    """Return the mean over ranks, without gradient."""
    return all_gather_stack(x).mean(0) if world_size() > 1 else x


class AnyRank:
    """Flags that are set on any rank. With several ranks they are one call late, so that no rank waits for another."""

    def __init__(self) -> None:
        self.pending: tuple[dist.Work, Tensor] | None = None

    def __call__(self, *flags: bool) -> list[bool]:
        """Return the flags that any rank gave; every rank must call this equally often."""
        if world_size() == 1:
            return list(flags)
        known = self.flush() or [False] * len(flags)
        own = torch.tensor(flags, dtype=torch.uint8)
        self.pending = dist.all_reduce(own, dist.ReduceOp.MAX, async_op=True), own
        return known

    def flush(self) -> list[bool] | None:
        """Return the flags of the last call, None before the first one, once all ranks have given theirs."""
        if self.pending is None:
            return None
        work, flags = self.pending
        work.wait()
        self.pending = None
        return flags.bool().tolist()


def all_gather_object(thing: Any) -> list[Any]:
    """Gather an object from every rank."""
    if world_size() == 1:
        return [thing]
    things = [None] * world_size()
    dist.all_gather_object(things, thing)
    return things


def broadcast_from_rank0(make: Callable[[], T]) -> T:
    """Run `make` on rank 0 and broadcast the result to all ranks; its tensors must be on the CPU."""
    if world_size() == 1:
        return make()
    things = [make() if rank() == 0 else None]
    dist.broadcast_object_list(things)
    return cast(T, things[0])
