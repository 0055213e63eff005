"""Batch norm over the batches of all ranks, exact: N ranks compute what one would, on CPUs (which torch's own refuses) and GPUs.

Forward: mean and variance of each rank are combined by Chan et al. 1979's formula, after one exchange.
Backward: with g the gradient behind the norm and x^ the normalised input, dx = w / std (g - mean(g) - x^ mean(g x^)), the
means over all ranks, after one exchange. Weight and bias get this rank's part, as every parameter does.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rsa.distributed import all_gather_stack, world_size


class _Normalize(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, eps: float, count: int
    ) -> Tensor:
        context.save_for_backward(x, weight, mean, var)
        context.eps, context.count = eps, count
        return F.batch_norm(x, mean, var, weight, bias, False, 0.0, eps)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, var = context.saved_tensors
        g = gradients[0].contiguous(memory_format=_format(x))
        # Of weight and bias, as if mean and variance were constants: the sums of g x^ and of g.
        _, gw, gb = torch.ops.aten.native_batch_norm_backward(
            g, x, weight, mean, var, None, None, False, context.eps, [False, True, True]
        )
        mean_g, mean_gx = all_gather_stack(torch.stack([gb, gw]).to(mean.dtype)).sum(0) / context.count
        scale = weight * (var + context.eps).rsqrt()
        slope = -scale * (var + context.eps).rsqrt() * mean_gx
        constant = -scale * mean_g - slope * mean
        # scale g + constant + slope x, by the fastest kernels there are
        gx = F.batch_norm(g, torch.zeros_like(mean), torch.ones_like(var), scale, constant, False, 0.0, 0.0)
        gx.addcmul_(x, slope.to(x.dtype).view(-1, *[1] * (x.ndim - 2)))
        return gx, gw, gb, None, None, None, None


def _format(x: Tensor) -> torch.memory_format:
    channels_last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if channels_last else torch.contiguous_format


class SyncBatchNorm(nn.modules.batchnorm._BatchNorm):
    """nn.BatchNorm1d and 2d over all ranks."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"a batch norm's input must be (B, C, ...), got {tuple(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, ...) -> the same."""
        if not self.training or world_size() == 1:
            return super().forward(input)
        mean, var, count = self._statistics(input)
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            momentum = self.momentum if self.momentum is not None else 0.1
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
            self.running_var.lerp_((var * count / (count - 1)).to(self.running_var.dtype), momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
        weight = torch.ones_like(mean) if self.weight is None else self.weight
        bias = torch.zeros_like(mean) if self.bias is None else self.bias
        x = input.contiguous(memory_format=_format(input))
        return _Normalize.apply(x, weight, bias, mean, var, self.eps, count)  # type: ignore[no-any-return]

    @torch.no_grad()
    def _statistics(self, x: Tensor) -> tuple[Tensor, Tensor, int]:
        """Mean and biased variance over all ranks, and how many values each is of; ranks have batches of one size."""
        mean, var = torch.ops.aten.batch_norm_update_stats(x, None, None, 0.0)  # 30 times faster than torch.var_mean
        mean, var = (s if s.dtype == torch.float64 else s.float() for s in (mean, var))
        means, variances = all_gather_stack(torch.stack([mean, var])).unbind(1)  # (ranks, C)
        whole = means.mean(0)
        return whole, (variances + (means - whole) ** 2).mean(0), world_size() * x.numel() // x.shape[1]


def synchronize(module: nn.Module) -> None:
    """Let the batch norms of `module` see the batches of all ranks. ValueError for a kind of norm that can't."""
    for name, child in module.named_modules():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            if type(child) not in (nn.BatchNorm1d, nn.BatchNorm2d):
                raise ValueError(f"launch must ask for one process: {name} is a {type(child).__name__}, which ranks cannot share")
            child.__class__ = SyncBatchNorm  # same parameters, statistics and settings
