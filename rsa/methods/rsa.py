"""RSA, Bai et al. 2022 (NeurIPS), "RSA: Reducing Semantic Shift from Aggressive Augmentations for Self-supervised
Learning", https://openreview.net/pdf?id=Cgmk9CicWFl

    L = beta [d(q1, sg q2) + d(q2, sg q1)] + (1 - beta) [d(q1, sg z'2) + d(q2, sg z'1)]
    beta(p) = beta0 (cos(pi p) + 1) / 2,  and other schedules

q: online prediction of the aggressive views a1, a2; z': target projection of the weak views w1, w2; d: BYOL's distance.
beta balances an aggressive pair, which may have lost its meaning, against its weak origin.
As in the authors' code, the aggressive pair's target is the online prediction; `aggressive_target: target` uses the
target network's projection of the aggressive views instead.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from torch import Tensor, nn

from rsa import params
from rsa.data.views import weak_and_aggressive
from rsa.methods.byol import BYOL, distance
from rsa.schedules import SCHEDULES


class Embedded(NamedTuple):
    """Two duos of a weak and an aggressive view."""

    predictions: tuple[Tensor, Tensor]  # of the aggressive views, (B, P)
    weak_targets: tuple[Tensor, Tensor]  # of the weak views, (B, P), no gradient
    aggressive_targets: tuple[Tensor, Tensor]  # of the aggressive views, (B, P), no gradient


class RSA(BYOL):
    """BYOL with weak and aggressive views, balanced by beta."""

    recipe = staticmethod(weak_and_aggressive)

    def __init__(self, backbone: nn.Module, p: params.RSA) -> None:
        super().__init__(backbone, p)
        arguments = p.beta.model_dump()
        self.beta: Callable[[float], float] = partial(SCHEDULES[arguments.pop("schedule")], **arguments)
        self.online_target = p.aggressive_target == "online"

    def embed(self, views: list[Tensor]) -> Embedded:  # type: ignore[override]
        """Weak views through the target network, aggressive ones through the online network."""
        weak1, weak2, aggressive1, aggressive2 = views
        q1, q2 = self.predict(aggressive1), self.predict(aggressive2)
        targets = (q1.detach(), q2.detach()) if self.online_target else (self.target(aggressive1), self.target(aggressive2))
        return Embedded((q1, q2), (self.target(weak1), self.target(weak2)), targets)

    def losses(self, embedded: Embedded, progress: float) -> dict[str, Tensor]:  # type: ignore[override]
        """The loss of every sample and its two parts before beta, (B,) in [0, 8]."""
        (q1, q2), (w1, w2), (a1, a2) = embedded
        weak = distance(q1, w2) + distance(q2, w1)
        aggressive = distance(q1, a2) + distance(q2, a1)
        beta = self.beta(progress)
        return {"loss": beta * aggressive + (1 - beta) * weak, "weak": weak, "aggressive": aggressive}

    def before_step(self, progress: float) -> dict[str, float]:
        """Move the target network; beta goes into the curve."""
        return {**super().before_step(progress), "beta": self.beta(progress)}
