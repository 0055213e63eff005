"""Barlow Twins, Zbontar et al. 2021 (ICML), https://arxiv.org/abs/2103.03230

    L = sum_i (1 - C_ii)^2 + lambda sum_(i != j) C_ij^2,   C = mean over the batch of a b^T               (equations 1, 2)

a, b: the two projections, each dimension standardised over the global batch.
C is a mean over samples, so L is one too: with C_ij^2 = C_ij mean(a_i b_j), a sample's share of L is
sum_i (1 - 2 a_i b_i + C_ii a_i b_i) + lambda sum_(i != j) C_ij a_i b_j, and the mean over samples is L, gradient included.
"""

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from rsa import distributed
from rsa.data.samples import Samples
from rsa.methods.method import Method, MethodSettings
from rsa.models.backbones import full_precision, representation
from rsa.models.heads import DeepHead, mlp
from rsa.params.section import Positive

EPS = 1e-5  # as in a batch norm


class Settings(MethodSettings):
    """Barlow Twins' section of `methods`."""

    method: Literal["barlow_twins"]
    projector: DeepHead
    off_diagonal: Positive


class BarlowTwinsEmbeddings(NamedTuple):
    """The projections of each view."""

    projections: tuple[Tensor, ...]  # (B, P)


def standardized(z: Tensor) -> Tensor:
    """Standardise each dimension to mean 0 and variance 1: (N, P) -> (N, P)."""
    return (z - z.mean(0)) / (z.var(0, correction=0) + EPS).sqrt()


class BarlowTwins(Method):
    """One network and a projector."""

    needs_full_batch = True

    def __init__(self, backbone: nn.Module, p: Settings) -> None:
        super().__init__()
        self.backbone = backbone
        self.projector = mlp(backbone.num_features, p.projector.hidden, p.projector.out, p.projector.layers)  # type: ignore[arg-type]
        self.off_diagonal = p.off_diagonal

    def embed(self, views: list[Tensor], samples: Samples | None = None) -> BarlowTwinsEmbeddings:
        """Embed every view with the network."""
        return BarlowTwinsEmbeddings(self.forward_views(self.project, views))

    def project(self, x: Tensor) -> Tensor:
        """Return the projection z: (B, 3, H, W) -> (B, P)."""
        return full_precision(self.projector(representation(self.backbone, x)))

    def losses(self, embedded: Any, progress: float) -> dict[str, Tensor]:
        """Return each sample's contribution to the loss, (B,)."""
        z1, z2 = embedded.projections
        a, b = standardized(distributed.all_gather_with_grad(z1)), standardized(distributed.all_gather_with_grad(z2))  # (N, P)
        c = a.T @ b / len(a)  # (P, P)
        local = slice(distributed.rank() * len(z1), (distributed.rank() + 1) * len(z1))
        a, b = a[local], b[local]
        both, diagonal = a * b, c.diagonal()
        on = (1 - 2 * both + diagonal * both).sum(1)
        off = torch.einsum("ni,ij,nj->n", a, c, b) - (diagonal * both).sum(1)
        return {"loss": on + self.off_diagonal * off, "on_diagonal": on.detach(), "off_diagonal": off.detach()}
