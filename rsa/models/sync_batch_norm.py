"""Batch norm over the batches of all ranks: N ranks compute the same as one rank with the global batch.

Forward: mean and variance of all ranks are combined by the formula of Chan et al. 1979, with one collective call.
Backward: with g the gradient of the output and x^ the normalised input, dx = w / std (g - mean(g) - x^ mean(g x^)); the means
run over all ranks, with one collective call. Weight and bias get the local gradient, like every parameter.

On GPUs this calls the kernels of torch.nn.SyncBatchNorm, whose own code makes the CPU wait for the GPU in every forward pass.
There are no such kernels for CPUs, where the same formulae are put together from those of a plain batch norm.
"""

from functools import cache
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from rsa.distributed import all_gather_stack, world_size


class _Normalize(torch.autograd.Function):
    """The form for CPUs, given the global statistics."""

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
        # Gradients of weight and bias with constant mean and variance: the sums of g x^ and of g.
        _, gw, gb = torch.ops.aten.native_batch_norm_backward(
            g, x, weight, mean, var, None, None, False, context.eps, [False, True, True]
        )
        mean_g, mean_gx = all_gather_stack(torch.stack([gb, gw]).to(mean.dtype)).sum(0) / context.count
        scale = weight * (var + context.eps).rsqrt()
        slope = -scale * (var + context.eps).rsqrt() * mean_gx
        constant = -scale * mean_g - slope * mean
        # scale g + constant + slope x, computed with the fastest available kernels; F.batch_norm refuses an epsilon of 0
        gx = torch.batch_norm(g, scale, constant, torch.zeros_like(mean), torch.ones_like(var), False, 0.0, 0.0, False)
        gx.addcmul_(x, slope.to(x.dtype).view(-1, *[1] * (x.ndim - 2)))
        return gx, gw, gb, None, None, None, None


class _FusedNormalize(torch.autograd.Function):
    """The form for GPUs, which also updates the running statistics."""

    @staticmethod
    def forward(
        context: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        momentum: float,
        eps: float,
    ) -> Tensor:
        means, inverse_stds = all_gather_stack(torch.stack(torch.batch_norm_stats(x, eps))).unbind(1)  # (ranks, C)
        counts, whole_counts = _counts(world_size(), x.numel() // x.shape[1], means.dtype, x.device)
        mean, inverse_std = torch.batch_norm_gather_stats_with_counts(
            x, means, inverse_stds, running_mean, running_var, momentum, eps, counts
        )
        context.save_for_backward(x, weight, mean, inverse_std, whole_counts)
        return torch.batch_norm_elemt(x, weight, bias, mean, inverse_std, eps)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inverse_std, counts = context.saved_tensors
        g = gradients[0].contiguous(memory_format=_format(x))
        affine = weight is not None
        sum_g, sum_gx, gw, gb = torch.batch_norm_backward_reduce(g, x, mean, inverse_std, weight, True, affine, affine)
        sums = torch.stack([sum_g, sum_gx])
        dist.all_reduce(sums)
        gx = torch.batch_norm_backward_elemt(g, x, mean, inverse_std, weight, sums[0], sums[1], counts)
        return gx, gw if affine else None, gb if affine else None, None, None, None, None


@cache
def _counts(ranks: int, count: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the number of values of each rank, which are equal, as each of two kernels wants them."""
    return torch.full((ranks,), count, dtype=dtype, device=device), torch.full((ranks,), count, dtype=torch.int32, device=device)


def _format(x: Tensor) -> torch.memory_format:
    channels_last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if channels_last else torch.contiguous_format


class SyncBatchNorm(nn.modules.batchnorm._BatchNorm):
    """nn.BatchNorm1d and nn.BatchNorm2d with statistics over all ranks."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"a batch norm's input must be (B, C, ...), got {tuple(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (B, C, ...) over all ranks in training mode."""
        if not self.training or world_size() == 1:
            return super().forward(input)
        running_mean, running_var = (self.running_mean, self.running_var) if self.track_running_stats else (None, None)
        if running_mean is not None and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        momentum = self.momentum if self.momentum is not None else 0.1
        x = input.contiguous(memory_format=_format(input))
        if x.is_cuda:
            fused = (x, self.weight, self.bias, running_mean, running_var, momentum, self.eps)
            return _FusedNormalize.apply(*fused)  # type: ignore[no-any-return]
        mean, var, count = self._statistics(x)
        if running_mean is not None and running_var is not None:
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((var * count / (count - 1)).to(running_var.dtype), momentum)
        weight = torch.ones_like(mean) if self.weight is None else self.weight
        bias = torch.zeros_like(mean) if self.bias is None else self.bias
        return _Normalize.apply(x, weight, bias, mean, var, self.eps, count)  # type: ignore[no-any-return]

    @torch.no_grad()
    def _statistics(self, x: Tensor) -> tuple[Tensor, Tensor, int]:
        """Return mean and biased variance over all ranks and the number of values; all ranks have the same batch size."""
        mean, var = torch.ops.aten.batch_norm_update_stats(x, None, None, 0.0)  # 30 times faster than torch.var_mean
        mean, var = (s if s.dtype == torch.float64 else s.float() for s in (mean, var))
        means, variances = all_gather_stack(torch.stack([mean, var])).unbind(1)  # (ranks, C)
        global_mean = means.mean(0)
        return global_mean, (variances + (means - global_mean) ** 2).mean(0), world_size() * x.numel() // x.shape[1]


def synchronize(module: nn.Module) -> None:
    """Synchronise the batch norms of `module` over all ranks, in place. ValueError for an unsupported kind of norm."""
    for name, child in module.named_modules():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            if type(child) not in (nn.BatchNorm1d, nn.BatchNorm2d):
                raise ValueError(f"{name}: only BatchNorm1d and BatchNorm2d can be synchronised; train in one process")
            child.__class__ = SyncBatchNorm  # same parameters, statistics and settings
