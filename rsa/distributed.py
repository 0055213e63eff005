"""What the ranks of one run tell each other. Without a process group there is one rank, and nothing is sent."""

from collections.abc import Iterable

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as with_gradient
from torch import Tensor
from torch.nn import Parameter


def rank() -> int:
    """This process's number."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def gathered(x: Tensor) -> Tensor:
    """(B, ...) of every rank, in the order of ranks, with the gradient summed over the ranks that use it."""
    return torch.cat(list(with_gradient.all_gather(x.contiguous()))) if world() > 1 else x  # type: ignore[no-untyped-call]


@torch.no_grad()
def averaged(x: Tensor) -> Tensor:
    """The mean over ranks, without gradient."""
    if world() == 1:
        return x
    total = x.clone()
    dist.all_reduce(total)
    return total / world()


@torch.no_grad()
def average_gradients(parameters: Iterable[Parameter]) -> None:
    """Every gradient becomes its mean over ranks: of the ranks' mean losses, the gradient of the global batch's mean."""
    if world() == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])  # one message for all
    dist.all_reduce(flat)
    flat /= world()
    parts = torch.split(flat, [gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))
