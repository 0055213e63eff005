"""The interface of a method.

A method turns views into embeddings (`embed`) and embeddings into one loss per sample (`losses`); the loss of the batch is
their mean. This lets Hard View Selection score any view combination of any method. The other hooks do nothing unless a
method overrides them. In each step the loop calls

    before_step -> for each micro-batch: embed, losses, backward, after_backward -> optimizer -> after_step

`embed` returns a NamedTuple of tuples, each with one item per view (RSA: per pair of a weak and an aggressive view). The
first item of the first tuple is the online network's embedding (B, P), on which collapse is detected. `embed` and `losses`
change no state except batch-norm statistics.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from rsa.data.samples import Samples
from rsa.data.views import Recipe, candidates
from rsa.params.hard_views import HardViews
from rsa.params.optimizer import Optimizer
from rsa.params.section import Count, Section
from rsa.params.views import Views

Combinations = list[tuple[int, ...]]


class ControlSettings(Section):
    """Section of a control, which trains nothing. Its file defines a function `encoder(backbone, views)` instead of a Method."""

    method: str


class MethodSettings(Section):
    """Settings common to all trained methods; `method` is the name of the method's file."""

    method: str
    optimizer: Optimizer
    hard_views: HardViews | None
    epochs: Count | None


class Method(nn.Module):
    """A network and its loss; subclasses are the methods."""

    backbone: nn.Module  # the encoder that is evaluated
    recipe: Callable[..., Recipe] = staticmethod(candidates)
    needs_full_batch: ClassVar[bool] = False  # the loss depends on the whole batch: no gradient accumulation
    reusable: ClassVar[tuple[str, ...]] = ()  # fields of `embed`'s result computed by target networks, without gradient
    joint_views: bool = False  # all views are forwarded as one batch

    def forward_views(self, network: Callable[[Tensor], Tensor], views: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Apply `network` to each view (B, ...), or with `joint_views` to all as one batch, whose statistics batch norms see."""
        if self.joint_views and views:
            return network(torch.cat(list(views))).chunk(len(views))
        return tuple(map(network, views))

    def embed(self, views: list[Tensor], samples: Samples | None = None) -> Any:
        """Embed every view (B, 3, H, W) once."""
        raise NotImplementedError

    def losses(self, embedded: Any, progress: float) -> dict[str, Tensor]:
        """Return `loss` (B,) and further terms (B,) for the curve."""
        raise NotImplementedError

    def describe(self, views: list[Tensor], samples: Samples) -> dict[str, Tensor]:
        """Return further terms (B,) for the curve; called at intervals, after `embed` of the same views."""
        return {}

    def before_step(self, progress: float) -> dict[str, float | Tensor]:
        """Update state before the forward pass; returned scalars are logged to the curve."""
        return {}

    def after_backward(self, embedded: Any) -> None:
        """Use each micro-batch's embeddings after the backward pass."""

    def after_step(self, progress: float) -> None:
        """Update state after the optimiser step."""

    def constant_lr(self) -> Iterable[nn.Parameter]:
        """Return the parameters whose learning rate is not scheduled."""
        return ()

    # The methods below are called by Hard View Selection.

    def candidate_recipe(self, views: Views, p: HardViews) -> Recipe:
        """Return the recipe of the candidate views."""
        return self.recipe(views, p.candidates)

    def combinations(self, views: Views, p: HardViews) -> Combinations:
        """Return the admissible view combinations, the plain method's first. By default these are all pairs."""
        return list(combinations(range(p.candidates), 2))

    def combination_losses(self, embedded: Any, combinations: Combinations, progress: float) -> Tensor:
        """Return the loss of every sample for each view combination, (S, B)."""
        chosen = [type(embedded)(*(tuple(items[i] for i in views) for items in embedded)) for views in combinations]
        return torch.stack([self.losses(views, progress)["loss"] for views in chosen])

    def embed_reusing(self, views: list[Tensor], targets: dict[str, tuple[Tensor, ...]]) -> Any:
        """Embed like `embed`, but reuse the given outputs of the target networks."""
        raise ValueError(f"hard_views.scoring.reuse must be false for {type(self).__name__}, got true")

    def embed_predicting(self, views: list[Tensor], count: int) -> Any:
        """Embed like `embed` at lower cost: only the first `count` views are forwarded through the online network."""
        raise ValueError(f"hard_views.scoring.predicted must be null for {type(self).__name__}, got {count}")
