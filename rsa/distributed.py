"""What the ranks of one run tell each other. Without a process group there is one rank, and nothing is sent."""

import os
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import Parameter

from rsa import mesh

T = TypeVar("T")

_mesh: mesh.Mesh | None = None


def join(backend: str, timeout: timedelta, **meeting: Any) -> None:
    """Join the process group that torchrun's environment, or `meeting`, describes. Ranks that hear nothing for `timeout` fail."""
    global _mesh
    dist.init_process_group(backend, timeout=timeout, **meeting)
    if os.environ.get("LOCAL_WORLD_SIZE") == str(world()) != "1" and mesh.possible():
        _mesh = mesh.Mesh(rank(), world(), of_all, timeout.total_seconds())


def leave() -> None:
    """The opposite."""
    global _mesh
    if _mesh is not None:
        _mesh.close()
        _mesh = None
    dist.destroy_process_group()


def rank() -> int:
    """This process's number."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(world())]
        dist.all_gather(parts, x)
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous()
        dist.all_reduce(total)  # every rank's loss has used this rank's part
        return total.chunk(world())[rank()]


def gathered(x: Tensor) -> Tensor:
    """(B, ...) of every rank, in the order of ranks, with the gradient summed over the ranks that use it."""
    return _Gathered.apply(x.contiguous()) if world() > 1 else x


@torch.no_grad()
def of_ranks(x: Tensor) -> Tensor:
    """(...), small -> (ranks, ...), without gradient: every rank's."""
    if world() == 1:
        return x[None]
    if _mesh is not None and x.device.type == "cpu" and x.nbytes <= mesh.LARGEST:
        return _mesh.gathered(x)
    parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(world())]
    dist.all_gather(parts, x.contiguous())
    return torch.stack(parts)


def averaged(x: Tensor) -> Tensor:
    """The mean over ranks, without gradient."""
    return of_ranks(x).mean(0) if world() > 1 else x


@torch.no_grad()
def average_gradients(parameters: Iterable[Parameter]) -> None:
    """Every gradient becomes its mean over ranks: of the ranks' mean losses, the gradient of the global batch's mean."""
    if world() == 1:
        return
    views = [_flat(parameter) for parameter in parameters if parameter.grad is not None]
    if _mesh is not None and views[0].device.type == "cpu":
        _mesh.average(views)
        return
    flat = torch.cat(views)  # one message for all
    dist.all_reduce(flat)
    flat /= world()
    torch._foreach_copy_(views, torch.split(flat, [len(view) for view in views]))


def _flat(parameter: Parameter) -> Tensor:
    """(N,): the gradient's memory itself, in the order of the parameter's, which is the same on every rank."""
    gradient = parameter.grad
    assert gradient is not None
    if gradient.stride() != parameter.stride():
        gradient = parameter.grad = torch.empty_like(parameter).copy_(gradient)
    return gradient.as_strided((gradient.numel(),), (1,))


def on_any(flag: bool) -> bool:
    """Whether the flag is set on any rank; the same answer on all."""
    return bool(of_ranks(torch.tensor(flag)).any())


def of_all(thing: Any) -> list[Any]:
    """Every rank's."""
    if world() == 1:
        return [thing]
    things = [None] * world()
    dist.all_gather_object(things, thing)
    return things


def of_first(make: Callable[[], T]) -> T:
    """What the first rank makes, on every rank; its tensors must be on the CPU."""
    if world() == 1:
        return make()
    things = [make() if rank() == 0 else None]
    dist.broadcast_object_list(things)
    return cast(T, things[0])
