"""LARS, You et al. 2017, "Large Batch Training of Convolutional Networks", https://arxiv.org/abs/1708.03888

    u = g + decay w,   v <- momentum v + trust (|w| / |u|) u,   w <- w - lr v

g: gradient of a parameter w, v: its momentum. Biases and norms (1-D parameters) have neither decay nor trust ratio (Grill et
al. 2020, section 3.3). This is the code of the authors of Barlow Twins, MoCo v3, RSA and Hard View Selection; timm's LARS
divides by |g| + decay |w| instead of |u|.

Difference: SimCLR's authors multiply by the learning rate before they add to the momentum, all others after it, as here.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


class LARS(torch.optim.Optimizer):
    """SGD with momentum and a trust ratio for each weight matrix, 1 where the matrix or its update is 0."""

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        *,
        momentum: float,
        weight_decay: float = 0.0,
        trust: float = 0.001,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update all parameters that have a gradient."""
        for group in self.param_groups:
            trained = [weight for weight in group["params"] if weight.grad is not None]
            matrices, vectors = ([w for w in trained if (w.ndim > 1) == several] for several in (True, False))
            updates = scaled_updates(matrices, group["weight_decay"], group["trust"]) + [w.grad for w in vectors]
            weights = matrices + vectors
            if weights:
                momenta = [self._momentum(w) for w in weights]
                torch._foreach_mul_(momenta, group["momentum"])
                torch._foreach_add_(momenta, updates)
                torch._foreach_add_(weights, momenta, alpha=-group["lr"])

    def _momentum(self, weight: Tensor) -> Tensor:
        state = self.state[weight]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        return state["momentum_buffer"]  # type: ignore[no-any-return]


def scaled_updates(weights: list[Tensor], decay: float, trust: float) -> list[Tensor]:
    """Return u = g + decay w of each weight, scaled to the norm trust |w|."""
    if not weights:
        return []
    updates = list(torch._foreach_add([w.grad for w in weights], weights, alpha=decay))  # type: ignore[misc]
    of_weights, of_updates = (torch.stack(torch._foreach_norm(tensors)) for tensors in (weights, updates))
    ratios = torch.where((of_weights > 0) & (of_updates > 0), trust * of_weights / of_updates, 1.0)
    torch._foreach_mul_(updates, ratios.unbind())
    return updates
