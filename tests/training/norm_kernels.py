"""The kernels that torch has for synchronised batch norms on GPUs alone, written again, for CPU and fake tensors."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def _channel(x: Tensor) -> tuple[list[int], list[int]]:
    """All dimensions but the channels, and the shape of a number per channel."""
    return [0, *range(2, x.ndim)], [1, -1, *[1] * (x.ndim - 2)]


def batch_norm_stats(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    dims, _ = _channel(x)
    wide = x if x.dtype == torch.float64 else x.float()
    return wide.mean(dims), (wide.var(dims, correction=0) + eps).rsqrt()


def batch_norm_gather_stats_with_counts(
    x: Tensor, mean: Tensor, invstd: Tensor, running_mean: Tensor | None, running_var: Tensor | None,
    momentum: float, eps: float, counts: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    n, total = counts[:, None], counts.sum()
    whole = (mean * n).sum(0) / total
    var = (((invstd**-2 - eps) + (mean - whole) ** 2) * n).sum(0) / total
    if running_mean is not None and running_var is not None:
        running_mean.mul_(1 - momentum).add_(momentum * whole)
        running_var.mul_(1 - momentum).add_(momentum * var * total / (total - 1))
    return whole, (var + eps).rsqrt()


def batch_norm_elemt(x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, invstd: Tensor, eps: float) -> Tensor:
    _, shape = _channel(x)
    y = (x - mean.view(shape)) * invstd.view(shape)
    y = y if weight is None else y * weight.view(shape)
    return (y if bias is None else y + bias.view(shape)).to(x.dtype)


def batch_norm_backward_reduce(
    g: Tensor, x: Tensor, mean: Tensor, invstd: Tensor, weight: Tensor | None, input_g: bool, weight_g: bool, bias_g: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dims, shape = _channel(x)
    sum_g, sum_gx = g.to(mean.dtype).sum(dims), (g * (x - mean.view(shape))).sum(dims)
    return sum_g, sum_gx, sum_gx * invstd, sum_g.clone()


def batch_norm_backward_elemt(
    g: Tensor, x: Tensor, mean: Tensor, invstd: Tensor, weight: Tensor | None, sum_g: Tensor, sum_gx: Tensor, counts: Tensor
) -> Tensor:
    _, shape = _channel(x)
    scale = invstd if weight is None else invstd * weight
    mean_g, slope = sum_g / counts.sum(), sum_gx / counts.sum() * invstd**2
    return ((g - mean_g.view(shape) - (x - mean.view(shape)) * slope.view(shape)) * scale.view(shape)).to(x.dtype)


KERNELS = (
    batch_norm_stats, batch_norm_gather_stats_with_counts, batch_norm_elemt, batch_norm_backward_reduce, batch_norm_backward_elemt
)  # fmt: skip


@contextmanager
def norm_kernels() -> Iterator[None]:
    """Give torch the kernels above for every device that has none."""
    with torch.library._scoped_library("aten", "IMPL") as library:
        for kernel in KERNELS:
            library.impl(kernel.__name__, kernel, "CompositeExplicitAutograd")
        yield
