"""Bootstrap Your Own Latent, Grill et al. 2020 (NeurIPS), https://arxiv.org/abs/2006.07733

    L = d(q1, sg z'2) + d(q2, sg z'1),   d(q, z) = 2 - 2 cos(q, z)          (equation 2, both ways)
    tau(p) = 1 - (1 - tau0) (cos(pi p) + 1) / 2                             (section 3.3)

q: prediction of the online network, z': projection of the target network, sg: stop-gradient.
The target is the EMA of the online parameters only; its batch norms are in train mode. It is updated before the loss of
the step is computed, and the last layer of both heads has no bias, as in the code of RSA's authors.
"""

from typing import Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rsa import schedules
from rsa.data.samples import Samples
from rsa.methods.method import Method, MethodSettings
from rsa.models.backbones import full_precision, representation
from rsa.models.ema import ema_update, make_target
from rsa.models.heads import Head, mlp
from rsa.params.section import Count, Fraction


class BYOLEmbeddings(NamedTuple):
    """The online network's predictions and the target network's projections of each view."""

    predictions: tuple[Tensor, ...]  # (B, P)
    targets: tuple[Tensor, ...]  # (B, P), no gradient


class BYOLNetworks(MethodSettings):
    """The networks of BYOL and of the methods that extend it."""

    projector: Head
    predictor_hidden: Count
    ema_start: Fraction


class Settings(BYOLNetworks):
    """BYOL's section of `methods`."""

    method: Literal["byol"]


def unit(pair: tuple[Tensor, Tensor]) -> Tensor:
    """Stack the embeddings of two views, scaled to unit length: two of (B, P) -> (2, B, P)."""
    return F.normalize(torch.stack(pair), dim=2)


def distance(q: Tensor, z: Tensor) -> Tensor:
    """Return d(q1, z2) + d(q2, z1) per sample for unit vectors: (2, B, P), (2, B, P) -> (B,) in [0, 8].

    As products of unit vectors, for both views at once, they take a third of the kernels that cosine similarities take.
    """
    return 4 - 2 * (q * z.flip(0)).sum((0, 2))


class BYOL(Method):
    """Online and target network and predictor around a backbone."""

    reusable: ClassVar[tuple[str, ...]] = ("targets",)

    def __init__(self, backbone: nn.Module, p: BYOLNetworks) -> None:
        super().__init__()
        self.p = p
        self.backbone = backbone
        self.projector = mlp(backbone.num_features, p.projector.hidden, p.projector.out, hidden_bias=True)  # type: ignore[arg-type]
        self.predictor = mlp(p.projector.out, p.predictor_hidden, p.projector.out, hidden_bias=True)
        self.target_backbone = make_target(self.backbone)
        self.target_projector = make_target(self.projector)

    def predict(self, x: Tensor) -> Tensor:
        """Return the online network's prediction q: (B, 3, H, W) -> (B, P)."""
        return full_precision(self.predictor(self.projector(representation(self.backbone, x))))

    @torch.no_grad()
    def target(self, x: Tensor) -> Tensor:
        """Return the target network's projection z': (B, 3, H, W) -> (B, P)."""
        return full_precision(self.target_projector(representation(self.target_backbone, x)))

    def embed(self, views: list[Tensor], samples: Samples | None = None) -> Any:
        """Embed every view with both networks."""
        return BYOLEmbeddings(self.forward_views(self.predict, views), self.forward_views(self.target, views))

    def embed_reusing(self, views: list[Tensor], targets: dict[str, tuple[Tensor, ...]]) -> Any:
        """Embed every view with the online network only."""
        return BYOLEmbeddings(self.forward_views(self.predict, views), **targets)

    def embed_predicting(self, views: list[Tensor], count: int) -> Any:
        """Predict the first `count` views with the online network, the others from the target network's projections."""
        z = self.forward_views(self.target, views)
        q = self.forward_views(self.predict, views[:count])
        predicted = self.forward_views(lambda x: full_precision(self.predictor(x)), z[count:])
        return BYOLEmbeddings(q + predicted, z)

    def losses(self, embedded: Any, progress: float) -> dict[str, Tensor]:
        """Return the loss of every sample, (B,) in [0, 8]."""
        return {"loss": distance(unit(embedded.predictions), unit(embedded.targets))}

    def before_step(self, progress: float) -> dict[str, float | Tensor]:
        """Update the target network."""
        tau = schedules.ema_momentum(progress, self.p.ema_start)
        ema_update(self.target_backbone, self.backbone, tau)
        ema_update(self.target_projector, self.projector, tau)
        return {"tau": tau}
