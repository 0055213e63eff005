"""What a method is.

A method turns views into embeddings (`embed`) and embeddings into one loss per sample (`losses`), of which the batch's
is the mean. So Hard View Selection can score any set of views of any method. The other hooks do nothing unless a method
needs them. The loop calls, for each step,

    before_step -> for each part of the batch: embed, losses, backward, after_backward -> optimizer -> after_step

`embed` returns a NamedTuple of tuples, each with one item per view (RSA: per duo of a weak and an aggressive view); the
first item of the first tuple is the online network's embedding (B, P), by which a collapse is noticed. `embed` and
`losses` change no state but batch-norm statistics.
"""

from collections.abc import Callable, Iterable
from itertools import combinations
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from rsa.data.samples import Samples
from rsa.data.views import Recipe, candidates
from rsa.params.hard_views import HardViews
from rsa.params.optimizer import Optimizer
from rsa.params.section import Section
from rsa.params.views import Views

Combinations = list[tuple[int, ...]]


class ControlSettings(Section):
    """The section of a control, which trains nothing. Its file has a function `encoder(backbone)` instead of a Method."""

    method: str


class MethodSettings(Section):
    """What the section of every trained method has; `method` is the name of the method's file."""

    method: str
    optimizer: Optimizer
    hard_views: HardViews | None


class Method(nn.Module):
    """A network and its loss; subclasses are the methods."""

    backbone: nn.Module  # the encoder that is evaluated
    recipe: Callable[..., Recipe] = staticmethod(candidates)
    needs_full_batch: ClassVar[bool] = False  # whether a sample's loss depends on the others: then parts of a batch won't do
    reusable: ClassVar[tuple[str, ...]] = ()  # what `embed` returns without gradient, by target networks

    def embed(self, views: list[Tensor], samples: Samples | None = None) -> Any:
        """Every view (B, 3, H, W) forwarded once."""
        raise NotImplementedError

    def losses(self, embedded: Any, progress: float) -> dict[str, Tensor]:
        """`loss` (B,), and further terms (B,) for the curve."""
        raise NotImplementedError

    def describe(self, views: list[Tensor], samples: Samples) -> dict[str, Tensor]:
        """Further terms (B,) for the curve, asked for now and then, after `embed` of the same views."""
        return {}

    def before_step(self, progress: float) -> dict[str, float | Tensor]:
        """Move what moves before the loss; what it returns goes into the curve."""
        return {}

    def after_backward(self, embedded: Any) -> None:
        """Take notice of what was trained on."""

    def after_step(self, progress: float) -> None:
        """Move what moves after the optimiser."""

    def constant_lr(self) -> Iterable[nn.Parameter]:
        """Parameters whose learning rate is not scheduled."""
        return ()

    # What Hard View Selection asks.

    def candidate_recipe(self, views: Views, p: HardViews) -> Recipe:
        """The views that it chooses from."""
        return self.recipe(views, p.candidates)

    def combinations(self, views: Views, p: HardViews) -> Combinations:
        """The admissible sets of candidates, the plain method's first. Here: all pairs."""
        return list(combinations(range(p.candidates), 2))

    def combination_losses(self, embedded: Any, sets: Combinations, progress: float) -> Tensor:
        """The loss of every sample with each set of views: (S, B)."""
        chosen = [type(embedded)(*(tuple(items[i] for i in views) for items in embedded)) for views in sets]
        return torch.stack([self.losses(views, progress)["loss"] for views in chosen])

    def embed_reusing(self, views: list[Tensor], targets: dict[str, tuple[Tensor, ...]]) -> Any:
        """As `embed`, where the target networks' outputs are there already."""
        raise ValueError(f"hard_views.scoring.reuse must be false for {type(self).__name__}, got true")

    def embed_predicting(self, views: list[Tensor], count: int) -> Any:
        """As `embed`, cheaper: only the first `count` views go through the online network too."""
        raise ValueError(f"hard_views.scoring.predicted must be null for {type(self).__name__}, got {count}")
