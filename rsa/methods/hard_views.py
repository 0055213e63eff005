"""Hard View Selection, Ferreira et al. 2025 (ICLR), "Beyond Random Augmentations: Pretraining with Hard Views",
https://arxiv.org/abs/2310.03940

    of all admissible sets S of V candidate views of a sample, train on  argmax over S of  loss(S)          (algorithm 1)

It wraps any method: the candidates are embedded without gradient, every admissible set is scored by the method's own
losses, and for each sample the views of its hardest set go on (the first of equals). For RSA a candidate is a duo of a weak
and an aggressive view. Scoring changes no state: batch norms use their batch and keep their statistics, no random number
generator moves. With no more candidates than the method needs nothing is scored, and the method is what it was.

Scoring costs a forward of all candidates through both networks. The exact form is {precision: same, predicted: null,
reuse: false}; benchmarks/hard_views.py says what the cheaper ones cost and how well they choose:
    precision: bf16       forward in bf16
    predicted: 3          only 3 candidates go through the online network, the predictor makes predictions of the others from
                          the target network's projections
    reuse: true           training takes the target network's outputs from scoring: choices stay exact, but a batch norm of the
                          target has seen the batch of a candidate, not the batch of chosen views
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rsa.data.philox import uniforms
from rsa.data.samples import Samples
from rsa.methods.method import Combinations, Method
from rsa.params.hard_views import HardViews as HardViewSettings
from rsa.params.hard_views import Scoring
from rsa.params.views import Views

FEW_SETS = 15  # all pairs of 6 candidates
STREAM = 1 << 10  # the counter's view number of the sets that are drawn


@dataclass(frozen=True)
class Selection:
    """What was chosen from for B samples."""

    losses: Tensor  # (S, B), of every set that was scored
    sets: Tensor  # (S, views in a set): numbers of candidate duos
    chosen: Tensor  # (B,): the row of `sets`
    embedded: Any  # the method's, of all candidates


class HardViews(Method):
    """A method that trains on the hardest of several views."""

    def __init__(self, method: Method, p: HardViewSettings, views: Views) -> None:
        super().__init__()
        self.method, self.p = method, p
        self.candidate_views = method.candidate_recipe(views, p)
        self.all_combinations = method.combinations(views, p)
        self.views_per_candidate = len(self.candidate_views.views) // len(self.candidate_views.crops)  # views of a candidate
        self.progress = 0.0  # of the step that is under way
        self.selection: Selection | None = None  # of the last batch

    @property
    def backbone(self) -> nn.Module:  # type: ignore[override]
        """The method's."""
        return self.method.backbone

    @property
    def needs_full_batch(self) -> bool:  # type: ignore[override]
        """The method's."""
        return self.method.needs_full_batch

    def embed(self, views: list[Tensor], samples: Samples | None = None) -> Any:
        """Score all candidates, embed the chosen ones."""
        assert samples is not None
        if len(self.all_combinations) == 1:
            return self.method.embed(views, samples)
        self.selection = self.select(views, samples)
        numbers = self.selection.sets[self.selection.chosen].T  # (views in a set, B)
        chosen = self.pick(views, numbers)
        if not self.p.scoring.reuse:
            return self.method.embed(chosen, samples)
        rows = torch.arange(numbers.shape[1], device=numbers.device)
        scored = {name: torch.stack(getattr(self.selection.embedded, name)) for name in self.method.reusable}
        return self.method.embed_reusing(chosen, {name: tuple(x[mine, rows] for mine in numbers) for name, x in scored.items()})

    @torch.no_grad()
    def select(self, views: list[Tensor], samples: Samples) -> Selection:
        """The hardest set of every sample."""
        sets = self._drawn(samples.seed)
        with scoring(self.method, self.p.scoring, views[0].device.type):
            count = self.p.scoring.predicted
            embedded = self.method.embed(views, samples) if count is None else self.method.embed_predicting(views, count)
        with torch.autocast(views[0].device.type, enabled=False):  # losses are never in bf16, as in the loop
            losses = self.method.combination_losses(embedded, sets, self.progress)
        numbers = torch.arange(len(sets), device=losses.device)[:, None]
        hardest = torch.where(losses == losses.max(0).values, numbers, len(sets)).min(0).values  # the first of equals
        chosen = hardest.clamp(max=len(sets) - 1)  # where no loss is a number, the loop will say so
        return Selection(losses, torch.tensor(sets, device=losses.device), chosen, embedded)

    def pick(self, views: list[Tensor], numbers: Tensor) -> list[Tensor]:
        """Every sample's views of the candidates `numbers` (views in a set, B), in the method's order."""
        count = len(views) // self.views_per_candidate
        rows = torch.arange(numbers.shape[1], device=numbers.device)
        picked = []
        for part in range(self.views_per_candidate):
            candidates = views[part * count : (part + 1) * count]
            for place, mine in enumerate(numbers):
                size = candidates[self.all_combinations[0][place]].shape
                same = [i for i, view in enumerate(candidates) if view.shape == size]  # neighbours
                view = torch.stack([candidates[i] for i in same])[mine - same[0], rows]
                picked.append(view.contiguous(memory_format=torch.channels_last))
        return picked

    def _drawn(self, seed: int) -> Combinations:
        """All sets, or `max_combinations` of them drawn for this step, in their order, the plain method's among them."""
        if len(self.all_combinations) <= self.p.max_combinations:
            return self.all_combinations
        step = np.array([self.progress]).view(np.int64)  # a number of its own for every step, the same on all ranks
        order = np.argsort(uniforms(seed, step, np.zeros(1, int), STREAM, len(self.all_combinations) - 1)[0], kind="stable")
        return [self.all_combinations[0], *(self.all_combinations[1 + i] for i in sorted(order[: self.p.max_combinations - 1]))]

    def losses(self, embedded: Any, progress: float) -> dict[str, Tensor]:
        """The method's, of the chosen views; and of the selection, the mean scores of the chosen and of all sets."""
        losses = self.method.losses(embedded, progress)
        if self.selection is not None:
            scores = self.selection.losses
            losses |= {
                "score": scores.max(0).values,
                "score_all": scores.mean(0),
                "plain_rank": 1.0 + (scores > scores[0]).sum(0),  # of the pair that the plain method would have taken
            }
        return losses

    def describe(self, views: list[Tensor], samples: Samples) -> dict[str, Tensor]:
        """Of the selection: which set (0 or 1 for each, where they are few), overlap (IoU) and colour distance of the chosen
        pairs and of all pairs, (B,). Harder pairs overlap less."""
        if self.selection is None:
            return {}
        sets, chosen = self.selection.sets, self.selection.chosen
        few = sets.tolist() if len(sets) <= FEW_SETS else []
        terms = {f"chosen {'-'.join(str(1 + i) for i in views)}": (chosen == k).double() for k, views in enumerate(few)}
        if sets.shape[1] == 1:
            return terms
        sets = sets[:, :2]
        boxes = torch.from_numpy(samples.boxes[..., :4]).to(chosen.device)  # (candidates, B, 4)
        overlap = iou(boxes[sets[:, 0]], boxes[sets[:, 1]])  # (S, B)
        last = views[-(len(views) // self.views_per_candidate) :]  # of RSA's duos the aggressive views
        colors = torch.stack([view.mean((2, 3)) for view in last])  # (candidates, B, 3)
        distance = (colors[sets[:, 0]] - colors[sets[:, 1]]).norm(dim=2)
        rows = torch.arange(len(chosen), device=chosen.device)
        return terms | {
            "iou": overlap[chosen, rows],
            "iou_all": overlap.mean(0),
            "color": distance[chosen, rows],
            "color_all": distance.mean(0),
        }

    def choices(self, views: list[Tensor], samples: Samples) -> dict[str, list[Any]] | None:
        """To be looked at: of each sample the places in `views` of what is chosen (`rows`), and the loss of the chosen set and
        the mean over all sets (`score`, `score_all`). None where there is nothing to choose from."""
        if len(self.all_combinations) == 1:
            return None
        selection = self.select(views, samples)
        count = len(views) // self.views_per_candidate  # candidates
        candidates = selection.sets[selection.chosen].tolist()
        rows = [[part * count + i for part in range(self.views_per_candidate) for i in numbers] for numbers in candidates]
        scores = selection.losses
        return {"rows": rows, "score": scores.max(0).values.tolist(), "score_all": scores.mean(0).tolist()}

    def after_backward(self, embedded: Any) -> None:
        """As the method."""
        self.method.after_backward(embedded)

    def before_step(self, progress: float) -> dict[str, float | Tensor]:
        """As the method."""
        self.progress = progress
        return self.method.before_step(progress)

    def after_step(self, progress: float) -> None:
        """As the method."""
        self.method.after_step(progress)

    def constant_lr(self) -> Iterable[nn.Parameter]:
        """The method's."""
        return self.method.constant_lr()


@contextmanager
def scoring(method: nn.Module, p: Scoring, device: str) -> Iterator[None]:
    """While it lasts a forward changes no state of `method` and no random number generator."""
    norms = [module for module in method.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training]
    enabled = p.precision == "bf16" or torch.is_autocast_enabled(device)
    still = [parameter for parameter in method.parameters() if not parameter.requires_grad] if enabled else []
    try:
        for norm in norms:
            norm.track_running_stats = False  # uses the batch's statistics, keeps none
        for parameter in still:
            parameter.requires_grad_(True)  # autocast casts once for all candidates only what wants a gradient
        with torch.random.fork_rng(), torch.autocast(device, torch.bfloat16, enabled=enabled):
            yield
    finally:
        torch.clear_autocast_cache()  # the casts made here have no gradient: the training forward must not meet them
        for parameter in still:
            parameter.requires_grad_(False)
        for norm in norms:
            norm.track_running_stats = True


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of boxes (..., 4) of top, left, height, width -> (...)."""
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    shared = (high - low).clamp(min=0).prod(-1).double()
    return shared / (a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - shared)
