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
    """Build an MLP (B, inputs) -> (B, outputs) of `layers` linear layers with batch norm and ReLU between them.

    The last layer is linear only (Grill et al. 2020, section 3.3) or, with `normalize_out`, followed by a batch norm without
    scale and shift (Chen et al. 2021, MoCo v3 and SimSiam).
    """
    sizes = [inputs, *[hidden] * (layers - 1)]
    modules: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        modules += [nn.Linear(before, after, bias=not normalize_out), nn.BatchNorm1d(after), nn.ReLU(inplace=True)]
    modules.append(nn.Linear(sizes[-1], outputs, bias=not normalize_out))
    if normalize_out:
        modules.append(nn.BatchNorm1d(outputs, affine=False))
    return nn.Sequential(*modules)


class PrototypeHead(nn.Module):
    """DINO's head (Caron et al. 2021, appendix C): (..., inputs) -> logits (..., prototypes).

    It has three layers with GELU, an L2-normalised bottleneck, and prototypes of unit length or of learnt length.
    """

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
        """Return the logits."""
        return self.last(F.normalize(self.mlp(x), dim=-1))  # type: ignore[no-any-return]
