"""MoCo v3, Chen, Xie and He 2021 (ICCV), https://arxiv.org/abs/2104.02057

    L = ctr(q1, k2) + ctr(q2, k1),   ctr(q, k) = -2 T log exp(q k+ / T) / sum over k of exp(q k / T)      (algorithm 1)

q: prediction of the online network, k: projection of the momentum network, both of unit length; k+: the key of the same sample;
the sum runs over the global batch. The momentum network is updated before its keys are computed; 1 - m decays as a cosine.
`freeze_patch_embed`: the random patch projection of a ViT is not trained (section 4.2). `predictor.out_norm`: the predictor ends
in a batch norm on a ViT, and in a linear layer on a ResNet (https://github.com/facebookresearch/moco-v3, moco/builder.py).
"""

from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rsa import distributed, schedules
from rsa.data.samples import Samples
from rsa.methods.method import Method, MethodSettings
from rsa.models.backbones import full_precision, representation
from rsa.models.ema import ema_update, make_target
from rsa.models.heads import DeepHead, NormedHead, mlp
from rsa.params.section import Fraction, Positive


class Settings(MethodSettings):
    """MoCo v3's section of `methods`."""

    method: Literal["moco_v3"]
    projector: DeepHead
    predictor: NormedHead
    temperature: Positive
    ema_start: Fraction
    freeze_patch_embed: bool


class MoCoEmbeddings(NamedTuple):
    """The online network's predictions and the momentum network's projections of each view."""

    predictions: tuple[Tensor, ...]  # (B, P)
    keys: tuple[Tensor, ...]  # (B, P), no gradient


class MoCoV3(Method):
    """Online and momentum network and predictor."""

    needs_full_batch = True
    reusable = ("keys",)

    def __init__(self, backbone: nn.Module, p: Settings) -> None:
        super().__init__()
        self.p = p
        self.backbone = backbone
        head, predictor = p.projector, p.predictor
        self.projector = mlp(backbone.num_features, head.hidden, head.out, head.layers, out_norm="fixed")  # type: ignore[arg-type]
        out_norm: Literal["fixed", "none"] = "fixed" if predictor.out_norm else "none"
        self.predictor = mlp(head.out, predictor.hidden, predictor.out, predictor.layers, out_norm=out_norm)
        self.target_backbone = make_target(backbone)
        self.target_projector = make_target(self.projector)
        if p.freeze_patch_embed:
            if not hasattr(backbone, "patch_embed"):
                raise ValueError("freeze_patch_embed must be false for a backbone without a patch embedding (not a ViT)")
            backbone.patch_embed.requires_grad_(False)

    def embed(self, views: list[Tensor], samples: Samples | None = None) -> MoCoEmbeddings:
        """Embed every view with both networks."""
        with torch.no_grad():
            k = self.forward_views(
                lambda view: full_precision(self.target_projector(representation(self.target_backbone, view))), views
            )
        return self.embed_reusing(views, {"keys": k})

    def embed_reusing(self, views: list[Tensor], targets: dict[str, tuple[Tensor, ...]]) -> MoCoEmbeddings:
        """Embed every view with the online network only."""
        q = self.forward_views(
            lambda view: full_precision(self.predictor(self.projector(representation(self.backbone, view)))), views
        )
        return MoCoEmbeddings(q, **targets)

    def losses(self, embedded: Any, progress: float) -> dict[str, Tensor]:
        """Return the loss of every sample of this rank against the keys of all ranks, (B,)."""
        (q1, q2), (k1, k2) = embedded
        return {"loss": self._contrast(q1, k2) + self._contrast(q2, k1)}

    def _contrast(self, q: Tensor, k: Tensor) -> Tensor:
        keys = distributed.all_gather_with_grad(F.normalize(k, dim=1))
        positives = torch.arange(len(q), device=q.device) + distributed.rank() * len(q)
        logits = F.normalize(q, dim=1) @ keys.T / self.p.temperature  # (B, N)
        return 2 * self.p.temperature * F.cross_entropy(logits, positives, reduction="none")

    def before_step(self, progress: float) -> dict[str, float | Tensor]:
        """Update the momentum network."""
        tau = schedules.ema_momentum(progress, self.p.ema_start)
        ema_update(self.target_backbone, self.backbone, tau)
        ema_update(self.target_projector, self.projector, tau)
        return {"tau": tau}
