"""SimSiam, Chen and He 2021 (CVPR), https://arxiv.org/abs/2011.10566

    L = D(p1, sg z2) / 2 + D(p2, sg z1) / 2,   D(p, z) = -cos(p, z)         (equations 1 to 4)

p: prediction, z: projection of the same network, sg: stop-gradient.
The projector has a batch norm after its last layer; the predictor's learning rate does not decay (section 4.2).
"""

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from rsa.data.samples import Samples
from rsa.methods.method import Method, MethodSettings
from rsa.models.backbones import full_precision, representation
from rsa.models.heads import DeepHead, mlp
from rsa.params.section import Count


class Settings(MethodSettings):
    """SimSiam's section of `methods`."""

    method: Literal["simsiam"]
    projector: DeepHead
    predictor_hidden: Count
    fixed_predictor_lr: bool


class SimSiamEmbeddings(NamedTuple):
    """The predictions and the projections of each view."""

    predictions: tuple[Tensor, ...]  # (B, P)
    projections: tuple[Tensor, ...]  # (B, P), no gradient


class SimSiam(Method):
    """One network and a predictor."""

    def __init__(self, backbone: nn.Module, p: Settings) -> None:
        super().__init__()
        self.backbone = backbone
        head = p.projector
        self.projector = mlp(backbone.num_features, head.hidden, head.out, head.layers, out_norm="fixed")  # type: ignore[arg-type]
        self.predictor = mlp(head.out, p.predictor_hidden, head.out, out_bias=True)
        self.fixed_predictor_lr = p.fixed_predictor_lr

    def embed(self, views: list[Tensor], samples: Samples | None = None) -> SimSiamEmbeddings:
        """Embed every view with the network."""
        z = self.forward_views(lambda view: self.projector(representation(self.backbone, view)), views)
        p = self.forward_views(self.predictor, z)
        return SimSiamEmbeddings(tuple(map(full_precision, p)), tuple(full_precision(x.detach()) for x in z))

    def losses(self, embedded: Any, progress: float) -> dict[str, Tensor]:
        """Return the loss of every sample, (B,) in [-1, 1]."""
        (p1, p2), (z1, z2) = embedded
        return {"loss": -(F.cosine_similarity(p1, z2) + F.cosine_similarity(p2, z1)) / 2}

    def constant_lr(self) -> Iterable[nn.Parameter]:
        """Return the predictor's parameters if `fixed_predictor_lr` is set."""
        return self.predictor.parameters() if self.fixed_predictor_lr else ()
