"""RSA, Bai et al. 2022 (NeurIPS), "RSA: Reducing Semantic Shift from Aggressive Augmentations for Self-supervised
Learning", https://openreview.net/pdf?id=Cgmk9CicWFl

    L = beta [d(q1, sg q2) + d(q2, sg q1)] + (1 - beta) [d(q1, sg z'2) + d(q2, sg z'1)]
    beta(p) = beta0 (cos(pi p) + 1) / 2,  and other schedules

q: online prediction of the aggressive views a1, a2; z': target projection of the weak views w1, w2; d: BYOL's distance.
beta balances an aggressive pair, which may have lost its semantics, against the weak views that it was made from. It may
also adapt to the losses (rsa.methods.adaptive_beta).
As in the authors' code, the aggressive pair's target is the online prediction; `aggressive_target: target` uses the
target network's projection of the aggressive views instead.
"""

from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from rsa.data.samples import Samples
from rsa.data.views import candidate_view_pairs
from rsa.methods.adaptive_beta import AdaptiveBeta
from rsa.methods.byol import BYOL, BYOLNetworks, distance, unit
from rsa.methods.method import Method
from rsa.params.beta import Beta
from rsa.schedules import SCHEDULES


class Settings(BYOLNetworks):
    """RSA's section of `methods`."""

    method: Literal["rsa"]
    beta: Beta
    aggressive_target: Literal["online", "target"]


class RSAEmbeddings(NamedTuple):
    """The embeddings of view pairs, each a weak and an aggressive view."""

    predictions: tuple[Tensor, ...]  # of the aggressive views, (B, P)
    weak_targets: tuple[Tensor, ...]  # of the weak views, (B, P), no gradient
    aggressive_targets: tuple[Tensor, ...]  # of the aggressive views, (B, P), no gradient


class RSA(BYOL):
    """BYOL with weak and aggressive views, balanced by beta."""

    recipe = staticmethod(candidate_view_pairs)
    reusable = ("weak_targets", "aggressive_targets")

    def __init__(self, backbone: nn.Module, p: Settings) -> None:
        super().__init__(backbone, p)
        arguments = p.beta.model_dump()
        name = arguments.pop("schedule")
        self.beta = AdaptiveBeta(**arguments) if name == "adaptive" else partial(SCHEDULES[name], **arguments)
        self.online_target = p.aggressive_target == "online"

    def embed(self, views: list[Tensor], samples: Samples | None = None) -> RSAEmbeddings:
        """Embed the weak views with the target network and the aggressive views with the online network."""
        weak, aggressive = views[: len(views) // 2], views[len(views) // 2 :]
        q = self.forward_views(self.predict, aggressive)
        targets = tuple(x.detach() for x in q) if self.online_target else self.forward_views(self.target, aggressive)
        return RSAEmbeddings(q, self.forward_views(self.target, weak), targets)

    def embed_reusing(self, views: list[Tensor], targets: dict[str, tuple[Tensor, ...]]) -> RSAEmbeddings:
        """Embed the aggressive views with the online network only."""
        q = self.forward_views(self.predict, views[len(views) // 2 :])
        own = {"aggressive_targets": tuple(x.detach() for x in q)} if self.online_target else {}
        return RSAEmbeddings(q, **{**targets, **own})

    embed_predicting = Method.embed_predicting  # the target network does not see the views that are predicted

    def losses(self, embedded: Any, progress: float) -> dict[str, Tensor]:
        """Return the loss of every sample and its two terms before weighting by beta, (B,) in [0, 8]."""
        q = unit(embedded.predictions)
        weak = distance(q, unit(embedded.weak_targets))
        aggressive = distance(q, unit(embedded.aggressive_targets))
        beta = self.beta(progress)
        return {"loss": beta * aggressive + (1 - beta) * weak, "weak": weak, "aggressive": aggressive}

    @torch.no_grad()
    def after_backward(self, embedded: Any) -> None:
        """Pass the losses of the aggressive pairs to the adaptive beta."""
        if isinstance(self.beta, AdaptiveBeta):
            self.beta.observe(distance(unit(embedded.predictions), unit(embedded.aggressive_targets)))

    def before_step(self, progress: float) -> dict[str, float | Tensor]:
        """Update the target network; beta is logged to the curve."""
        return {**super().before_step(progress), "beta": self.beta(progress)}

    def after_step(self, progress: float) -> None:
        """Update the adaptive beta."""
        if isinstance(self.beta, AdaptiveBeta):
            self.beta.judge(progress)
