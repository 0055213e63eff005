"""Projection and prediction heads."""

import itertools
from typing import Literal

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


class NormedHead(DeepHead):
    """An MLP of several layers that may end in a batch norm."""

    out_norm: bool


def mlp(
    inputs: int,
    hidden: int,
    outputs: int,
    layers: int = 2,
    *,
    hidden_bias: bool = False,
    out_bias: bool = False,
    out_norm: Literal["none", "scale", "fixed"] = "none",
) -> nn.Sequential:
    """Build an MLP (B, inputs) -> (B, outputs) of `layers` linear layers with batch norm and ReLU between them.

    `out_norm` is the batch norm behind the last layer: none (Grill et al. 2020, section 3.3), with a scale but no shift
    (SimCLR), or with neither (SimSiam, MoCo v3). Biases as in the code of each method's authors.
    """
    sizes = [inputs, *[hidden] * (layers - 1)]
    modules: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        modules += [nn.Linear(before, after, bias=hidden_bias), nn.BatchNorm1d(after), nn.ReLU(inplace=True)]
    modules.append(nn.Linear(sizes[-1], outputs, bias=out_bias))
    if out_norm != "none":
        norm = nn.BatchNorm1d(outputs, affine=out_norm == "scale")
        if out_norm == "scale":
            norm.bias.requires_grad_(False)
        modules.append(norm)
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
