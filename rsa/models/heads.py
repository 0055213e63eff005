"""Projection and prediction heads."""

import itertools

import torch.nn.functional as F
from torch import Tensor, nn

from rsa.params.section import Count, Section


class Head(Section):
    """An MLP of two layers."""

    hidden: Count
    out: Count


class DeepHead(Head):
    """An MLP of several layers."""

    layers: Count


def mlp(inputs: int, hidden: int, outputs: int, layers: int = 2, *, normalize_out: bool = False) -> nn.Sequential:
    """`layers` of linear, batch norm, ReLU, the last linear alone (Grill et al. 2020, section 3.3), or with a batch norm
    without scale and shift (Chen et al. 2021, MoCo v3 and SimSiam); (B, inputs) -> (B, outputs)."""
    sizes = [inputs, *[hidden] * (layers - 1)]
    modules: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        modules += [nn.Linear(before, after, bias=not normalize_out), nn.BatchNorm1d(after), nn.ReLU(inplace=True)]
    modules.append(nn.Linear(sizes[-1], outputs, bias=not normalize_out))
    if normalize_out:
        modules.append(nn.BatchNorm1d(outputs, affine=False))
    return nn.Sequential(*modules)


class PrototypeHead(nn.Module):
    """DINO's head (Caron et al. 2021, appendix C): three layers with GELU, a bottleneck on the sphere, and prototypes
    of unit length, or whose length is learnt; (..., inputs) -> logits (..., prototypes)."""

    def __init__(self, inputs: int, hidden: int, bottleneck: int, prototypes: int, *, unit_length: bool) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck)
        )
        for module in self.mlp.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        self.last = nn.utils.parametrizations.weight_norm(nn.Linear(bottleneck, prototypes, bias=False))
        lengths = self.last.parametrizations.weight.original0
        nn.init.ones_(lengths)
        lengths.requires_grad_(not unit_length)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return self.last(F.normalize(self.mlp(x), dim=-1))  # type: ignore[no-any-return]
