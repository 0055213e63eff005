"""The target network: an exponential moving average of the online network's parameters."""

import copy

import torch
from timm.layers import DropPath
from torch import nn


def make_target(online: nn.Module) -> nn.Module:
    """Copy a network without gradient and dropout; its batch norms stay in train mode with their own statistics."""
    target = copy.deepcopy(online).requires_grad_(False)
    for module in target.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, DropPath):
            module.drop_prob = 0.0
    return target


@torch.no_grad()
def ema_update(target: nn.Module, online: nn.Module, momentum: float) -> None:
    """Update parameters only: target <- momentum target + (1 - momentum) online; the target keeps its own buffers."""
    torch._foreach_lerp_(list(target.parameters()), list(online.parameters()), 1 - momentum)
