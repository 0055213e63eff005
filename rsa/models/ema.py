"""The target network: an exponential moving average of the online network's parameters."""

import copy

import torch
from torch import nn


def target_of(online: nn.Module) -> nn.Module:
    """A copy that gets no gradient; its batch norms stay in train mode and keep statistics of their own."""
    return copy.deepcopy(online).requires_grad_(False)


@torch.no_grad()
def move_towards(target: nn.Module, online: nn.Module, momentum: float) -> None:
    """target <- momentum target + (1 - momentum) online, for parameters only (buffers are the target's own)."""
    torch._foreach_lerp_(list(target.parameters()), list(online.parameters()), 1 - momentum)
