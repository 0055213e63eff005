"""Hard View Selection, Ferreira et al. 2025 (ICLR), "Beyond Random Augmentations: Pretraining with Hard Views",
https://arxiv.org/abs/2310.03940

    train each sample on  argmax over S of loss(S),  S: admissible combinations of V of its candidate views  (algorithm 1)

This wraps any method: the candidates are embedded without gradient and every admissible view combination is scored by the
method's own loss. Each sample trains on its highest-loss combination of views; ties take the first. For RSA a candidate is a
pair of a weak and an aggressive view. Scoring changes no state: batch norms use batch statistics without updating the
running ones, and random number generators are restored. If there are no more candidates than the method needs, nothing is
scored and the method is unchanged.

Differences from the authors' code (https://github.com/automl/hvp): scoring there updates batch norms; of a limited number of
combinations, here the plain method's is always one and none is drawn twice; the score is the loss that the method trains on.

Scoring costs a forward pass of all candidates through both networks. The published form is {joint_views: true, precision: same,
predicted: null, reuse: false}: all candidates are forwarded as one batch, whose statistics batch norms use. The other forms;
benchmarks/hard_views.py measures the cost of the cheaper ones and the quality of their choices:
    joint_views: false    forward one candidate after the other: 20 % of the choices of an untrained network differ
    precision: bf16       run the forward pass in bf16
    predicted: 3          forward only 3 candidates through the online network; the predictor predicts the others from the
                          target network's projections
    reuse: true           training reuses the target network's outputs from scoring: choices stay exact, but the target's
                          batch norms have seen the batch of a candidate instead of the batch of chosen views
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
from rsa.data.transfer import upload
from rsa.methods.method import Combinations, Method
from rsa.params.hard_views import HardViews as HardViewSettings
from rsa.params.hard_views import Scoring
from rsa.params.views import Views

MAX_LISTED_COMBINATIONS = 15  # all pairs of 6 candidates
STREAM = 1 << 10  # the counter's view number for drawing view combinations


@dataclass(frozen=True)
class Selection:
    """The scored view combinations of B samples, and the chosen ones."""

    losses: Tensor  # (S, B), of every scored view combination
    combinations: Tensor  # (S, candidates in a combination): numbers of the candidates
    chosen: Tensor  # (B,): the row of `combinations`
    embedded: Any  # the method's embeddings of all candidates


class HardViews(Method):
    """A method that trains on the hardest of several views."""

    def __init__(self, method: Method, p: HardViewSettings, views: Views) -> None:
        super().__init__()
        self.method, self.p = method, p
        self.candidate_views = method.candidate_recipe(views, p)
        self.all_combinations = method.combinations(views, p)
        self.views_per_candidate = len(self.candidate_views.views) // len(self.candidate_views.crops)  # 2 for RSA, else 1
        self.progress = 0.0  # of the current step
        self.selection: Selection | None = None  # of the last batch

    @property
    def backbone(self) -> nn.Module:  # type: ignore[override]
        """The backbone of the wrapped method."""
        return self.method.backbone

    @property
    def needs_full_batch(self) -> bool:  # type: ignore[override]
        """True if the loss of the wrapped method depends on the whole batch."""
        return self.method.needs_full_batch

    def embed(self, views: list[Tensor], samples: Samples | None = None) -> Any:
        """Score all candidates and embed the chosen ones."""
        assert samples is not None
        if len(self.all_combinations) == 1:
            return self.method.embed(views, samples)
        self.selection = self.select(views, samples)
        numbers = self.selection.combinations[self.selection.chosen].T  # (candidates in a combination, B)
        chosen = self.pick(views, numbers)
        if not self.p.scoring.reuse:
            return self.method.embed(chosen, samples)
        rows = torch.arange(numbers.shape[1], device=numbers.device)
        scored = {name: torch.stack(getattr(self.selection.embedded, name)) for name in self.method.reusable}
        return self.method.embed_reusing(
            chosen, {name: tuple(x[number, rows] for number in numbers) for name, x in scored.items()}
        )

    @torch.no_grad()
    def select(self, views: list[Tensor], samples: Samples) -> Selection:
        """Return the hardest view combination of every sample."""
        combinations = self._drawn(samples.seed)
        with scoring(self.method, self.p.scoring, views[0].device.type):
            count = self.p.scoring.predicted
            embedded = self.method.embed(views, samples) if count is None else self.method.embed_predicting(views, count)
        with torch.autocast(views[0].device.type, enabled=False):  # losses are never in bf16, as in the loop
            losses = self.method.combination_losses(embedded, combinations, self.progress)
        numbers = torch.arange(len(combinations), device=losses.device)[:, None]
        hardest = torch.where(losses == losses.max(0).values, numbers, len(combinations)).min(0).values  # ties take the first
        chosen = hardest.clamp(max=len(combinations) - 1)  # all losses are NaN: the training loop raises the error
        return Selection(losses, upload(torch.tensor(combinations), losses.device), chosen, embedded)

    def pick(self, views: list[Tensor], numbers: Tensor) -> list[Tensor]:
        """Select each sample's views by candidate numbers (candidates in a combination, B), in the method's order."""
        count = len(views) // self.views_per_candidate
        rows = torch.arange(numbers.shape[1], device=numbers.device)
        picked = []
        for part in range(self.views_per_candidate):
            candidates = views[part * count : (part + 1) * count]
            sizes = [view.shape for view in candidates]  # those of one size are contiguous
            stacks = {size: torch.stack([view for view in candidates if view.shape == size]) for size in dict.fromkeys(sizes)}
            for place, number in enumerate(numbers):
                size = sizes[self.all_combinations[0][place]]
                view = stacks[size][number - sizes.index(size), rows]
                picked.append(view.contiguous(memory_format=torch.channels_last))
        return picked

    def _drawn(self, seed: int) -> Combinations:
        """Return all view combinations, or an ordered random draw of `max_combinations` that includes the plain method's."""
        if len(self.all_combinations) <= self.p.max_combinations:
            return self.all_combinations
        step = np.array([self.progress]).view(np.int64)  # unique to each step, the same on all ranks
        order = np.argsort(uniforms(seed, step, np.zeros(1, int), STREAM, len(self.all_combinations) - 1)[0], kind="stable")
        return [self.all_combinations[0], *(self.all_combinations[1 + i] for i in sorted(order[: self.p.max_combinations - 1]))]

    def losses(self, embedded: Any, progress: float) -> dict[str, Tensor]:
        """Return the method's losses of the chosen views, and the scores of the chosen and of all view combinations."""
        losses = self.method.losses(embedded, progress)
        if self.selection is not None:
            scores = self.selection.losses
            losses |= {
                "score": scores.max(0).values,
                "score_all": scores.mean(0),
                "plain_rank": 1.0 + (scores > scores[0]).sum(0),  # of the combination that the plain method would have used
            }
        return losses

    def describe(self, views: list[Tensor], samples: Samples) -> dict[str, Tensor]:
        """Return statistics of the selection, (B,) each.

        They are an indicator of each view combination if there are few, and the overlap (IoU) and the colour distance of the
        chosen pairs and of all pairs. Harder pairs overlap less.
        """
        if self.selection is None:
            return {}
        combinations, chosen = self.selection.combinations, self.selection.chosen
        few = combinations.tolist() if len(combinations) <= MAX_LISTED_COMBINATIONS else []
        terms = {f"chosen {'-'.join(str(1 + i) for i in views)}": (chosen == k).double() for k, views in enumerate(few)}
        if combinations.shape[1] == 1:
            return terms
        combinations = combinations[:, :2]
        boxes = upload(torch.from_numpy(samples.boxes[..., :4]), chosen.device)  # (candidates, B, 4)
        overlap = iou(boxes[combinations[:, 0]], boxes[combinations[:, 1]])  # (S, B)
        last = views[-(len(views) // self.views_per_candidate) :]  # the aggressive views of RSA's view pairs
        colors = torch.stack([view.mean((2, 3)) for view in last])  # (candidates, B, 3)
        distance = (colors[combinations[:, 0]] - colors[combinations[:, 1]]).norm(dim=2)
        rows = torch.arange(len(chosen), device=chosen.device)
        return terms | {
            "iou": overlap[chosen, rows],
            "iou_all": overlap.mean(0),
            "color": distance[chosen, rows],
            "color_all": distance.mean(0),
        }

    def choices(self, views: list[Tensor], samples: Samples) -> dict[str, list[Any]] | None:
        """Return the selection for the report, or None if there is nothing to choose.

        `rows` holds the indices in `views` of the selected views of each sample, `score` the loss of the chosen combination,
        `score_all` the mean loss over all combinations.
        """
        if len(self.all_combinations) == 1:
            return None
        selection = self.select(views, samples)
        count = len(views) // self.views_per_candidate  # candidates
        candidates = selection.combinations[selection.chosen].tolist()
        rows = [[part * count + i for part in range(self.views_per_candidate) for i in numbers] for numbers in candidates]
        scores = selection.losses
        return {"rows": rows, "score": scores.max(0).values.tolist(), "score_all": scores.mean(0).tolist()}

    def after_backward(self, embedded: Any) -> None:
        """Call the hook of the wrapped method."""
        self.method.after_backward(embedded)

    def before_step(self, progress: float) -> dict[str, float | Tensor]:
        """Call the hook of the wrapped method."""
        self.progress = progress
        return self.method.before_step(progress)

    def after_step(self, progress: float) -> None:
        """Call the hook of the wrapped method."""
        self.method.after_step(progress)

    def constant_lr(self) -> Iterable[nn.Parameter]:
        """Return the unscheduled parameters of the wrapped method."""
        return self.method.constant_lr()


@contextmanager
def scoring(method: Method, p: Scoring, device: str) -> Iterator[None]:
    """Context in which a forward pass changes no state of `method` and no random number generator."""
    joint_views = method.joint_views
    norms = [module for module in method.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training]
    enabled = p.precision == "bf16" or torch.is_autocast_enabled(device)
    still = [parameter for parameter in method.parameters() if not parameter.requires_grad] if enabled else []
    try:
        method.joint_views = p.joint_views
        for norm in norms:
            norm.track_running_stats = False  # use batch statistics, keep none
        for parameter in still:
            parameter.requires_grad_(True)  # autocast caches casts only of parameters that require a gradient
        devices = [torch.cuda.current_device()] if device == "cuda" else []
        with torch.random.fork_rng(devices), torch.autocast(device, torch.bfloat16, enabled=enabled):
            yield
    finally:
        method.joint_views = joint_views
        torch.clear_autocast_cache()  # cached casts have no gradient: the training forward pass must not reuse them
        for parameter in still:
            parameter.requires_grad_(False)
        for norm in norms:
            norm.track_running_stats = True


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Return the intersection over union of boxes (..., 4) of top, left, height, width -> (...)."""
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    shared = (high - low).clamp(min=0).prod(-1).double()
    return shared / (a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - shared)
