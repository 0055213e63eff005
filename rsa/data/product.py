"""Matrix products without rounding."""

import torch
from torch import Tensor


def exact_product(a: Tensor, b: Tensor, offset: Tensor | None = None) -> Tensor:
    """Return a @ b, plus an offset, of float32 matrices (B, n, k) and (B, k, m) whose products and sums fit into 24 bits.

    Kernels may then sum in any order. TF32, which a GPU takes where `runtime.kernels.tf32` allows it, would cut off bits of the
    factors, so the product is computed in float64 there.
    """
    if a.is_cuda and torch.get_float32_matmul_precision() != "highest":
        a, b, offset = a.double(), b.double(), None if offset is None else offset.double()
    return (torch.bmm(a, b) if offset is None else torch.baddbmm(offset, a, b)).float()
