"""SimCLR, Chen et al. 2020 (ICML), https://arxiv.org/abs/2002.05709

    l(i, j) = -log exp(s_ij / T) / sum over k != i of exp(s_ik / T),   L_i = (l(i, j) + l(j, i)) / 2     (equation 1)

s: cosine of two projections; i, j: the two views of a sample; k: all 2 N views of the global batch.
As in the authors' code (https://github.com/google-research/simclr, model_util.py) both views are forwarded as one batch, and
the projector has no biases and ends in a batch norm with a scale but no shift. Others forward each view by itself
(`joint_views: false`: lightly) or leave the last norm out (`out_norm: false`: VISSL).
"""

from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rsa import distributed
from rsa.data.samples import Samples
from rsa.methods.method import Method, MethodSettings
from rsa.models.backbones import full_precision, representation
from rsa.models.heads import NormedHead, mlp
from rsa.params.section import Positive


class Settings(MethodSettings):
    """SimCLR's section of `methods`."""

    method: Literal["simclr"]
    projector: NormedHead
    joint_views: bool
    temperature: Positive


class SimCLREmbeddings(NamedTuple):
    """The projections of each view."""

    projections: tuple[Tensor, ...]  # (B, P)


class SimCLR(Method):
    """One network and a projector."""

    needs_full_batch = True

    def __init__(self, backbone: nn.Module, p: Settings) -> None:
        super().__init__()
        self.backbone = backbone
        head, norm = p.projector, "scale" if p.projector.out_norm else "none"
        self.projector = mlp(backbone.num_features, head.hidden, head.out, head.layers, out_norm=norm)  # type: ignore[arg-type]
        self.joint_views = p.joint_views
        self.temperature = p.temperature

    def embed(self, views: list[Tensor], samples: Samples | None = None) -> SimCLREmbeddings:
        """Embed every view with the network."""
        return SimCLREmbeddings(self.forward_views(self.project, views))

    def project(self, x: Tensor) -> Tensor:
        """Return the projection z: (B, 3, H, W) -> (B, P)."""
        return full_precision(self.projector(representation(self.backbone, x)))

    def losses(self, embedded: Any, progress: float) -> dict[str, Tensor]:
        """Return the loss of every sample of this rank against the views of all ranks, (B,)."""
        z1, z2 = (F.normalize(z, dim=1) for z in embedded.projections)
        all1, all2 = distributed.all_gather_with_grad(z1), distributed.all_gather_with_grad(z2)  # (N, P)
        return {"loss": (self._cross_entropy(z1, all1, all2) + self._cross_entropy(z2, all2, all1)) / 2}

    def _cross_entropy(self, anchors: Tensor, same_view: Tensor, other_view: Tensor) -> Tensor:
        positives = torch.arange(len(anchors), device=anchors.device) + distributed.rank() * len(anchors)
        negatives = (anchors @ same_view.T).scatter(1, positives[:, None], -torch.inf)  # exclude the anchor itself
        logits = torch.cat([anchors @ other_view.T, negatives], dim=1) / self.temperature  # (B, 2 N)
        return F.cross_entropy(logits, positives, reduction="none")
