"""Supervised training on the labels, the reference for methods that use no labels.

    L = cross entropy of the label, with label smoothing (Szegedy et al. 2016, section 7)

A linear classifier on the backbone, one weak view (random resized crop and flip).
With Hard View Selection, each sample trains on the hardest of several single views.
"""

from typing import Annotated, Any, Literal, NamedTuple

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from rsa.data.samples import Samples
from rsa.data.transfer import upload
from rsa.data.views import weak_views
from rsa.methods.method import Combinations, Method, MethodSettings
from rsa.models.backbones import full_precision, representation
from rsa.params.hard_views import HardViews
from rsa.params.section import Fraction
from rsa.params.views import Views


class Settings(MethodSettings):
    """Supervised training's section of `methods`."""

    method: Literal["supervised"]
    classes: Annotated[int, Field(ge=2)]
    label_smoothing: Fraction


class SupervisedEmbeddings(NamedTuple):
    """The logits and labels of each view."""

    logits: tuple[Tensor, ...]  # (B, classes)
    labels: tuple[Tensor, ...]  # (B,)


class Supervised(Method):
    """A backbone and a linear classifier."""

    recipe = staticmethod(weak_views)

    def __init__(self, backbone: nn.Module, p: Settings) -> None:
        super().__init__()
        self.p = p
        self.backbone = backbone
        self.classifier = nn.Linear(backbone.num_features, p.classes)  # type: ignore[arg-type]

    def embed(self, views: list[Tensor], samples: Samples | None = None) -> SupervisedEmbeddings:
        """Classify every view."""
        assert samples is not None
        low, high = int(samples.labels.min()), int(samples.labels.max())
        if low < 0 or high >= self.p.classes:
            raise ValueError(f"labels must be 0 to {self.p.classes - 1} (methods.*.classes), got {low} to {high}")
        logits = self.forward_views(lambda view: full_precision(self.classifier(representation(self.backbone, view))), views)
        return SupervisedEmbeddings(logits, (upload(samples.labels, logits[0].device),) * len(views))

    def losses(self, embedded: Any, progress: float) -> dict[str, Tensor]:
        """Return the loss and the top-1 accuracy (0 or 100) of every sample, (B,)."""
        (logits,), (labels,) = embedded
        loss = F.cross_entropy(logits, labels, reduction="none", label_smoothing=self.p.label_smoothing)
        return {"loss": loss, "top1": 100 * (logits.argmax(1) == labels).float()}

    def combinations(self, views: Views, p: HardViews) -> Combinations:
        """Return the candidates as single views."""
        return [(i,) for i in range(p.candidates)]
