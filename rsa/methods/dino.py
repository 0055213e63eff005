"""DINO, Caron et al. 2021 (ICCV), https://arxiv.org/abs/2104.14294

    L = mean over teacher views t and student views v != t of H(softmax((g_t - c) / T_t), softmax(g_v / T_s))   (equation 3)
    c <- m c + (1 - m) mean g_t                                                                                  (equation 4)

g: logits of a backbone with a prototype head; H: cross entropy; c: centre of the teacher's logits over the global batch.
The teacher sees the global views, the student all views. The teacher is the EMA of the student; like the centre, it is
updated after the optimiser step, as in the authors' code. T_t is warmed up, step by step, where the authors do
so once an epoch. The prototype layer is frozen for the first `freeze_last_layer` fraction of training.
"""

from itertools import combinations, groupby
from math import comb
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rsa import distributed, schedules
from rsa.data.samples import Samples
from rsa.data.views import Recipe, multi_crop
from rsa.methods.method import Combinations, Method, MethodSettings
from rsa.models.backbones import full_precision, representation
from rsa.models.ema import ema_update, make_target
from rsa.models.heads import PrototypeHead
from rsa.params.hard_views import HardViews
from rsa.params.section import Count, Fraction, Positive, Section
from rsa.params.views import Views

MAX_COMBINATIONS = 100_000


class HeadSettings(Section):
    """DINO's head: see rsa.models.heads.PrototypeHead."""

    hidden: Count
    bottleneck: Count
    out: Count
    norm_last_layer: bool


class WarmedTemperature(Section):
    """A temperature that goes from `start` to `end` over the first `warmup` fraction of training."""

    start: Positive
    end: Positive
    warmup: Fraction


class SelfDistillation(MethodSettings):
    """The networks and temperatures of DINO and of the methods that extend it."""

    head: HeadSettings
    student_temperature: Positive
    teacher_temperature: WarmedTemperature
    center_momentum: Fraction
    ema_start: Fraction
    freeze_last_layer: Fraction


class Settings(SelfDistillation):
    """DINO's section of `methods`."""

    method: Literal["dino"]


class DINOEmbeddings(NamedTuple):
    """The student's logits of all views and the teacher's logits of the global views."""

    students: tuple[Tensor, ...]  # (B, K)
    teachers: tuple[Tensor | None, ...]  # (B, K), no gradient; None for a local view


def cross_entropies(teacher: Tensor, student: Tensor) -> Tensor:
    """Return the cross entropy of every sample: probabilities (B, K), log-probabilities (B, K) -> (B,)."""
    return -(teacher * student).sum(-1)


class DINO(Method):
    """Student, teacher and centre."""

    recipe = staticmethod(multi_crop)
    center: Tensor

    def __init__(self, backbone: nn.Module, p: SelfDistillation) -> None:
        super().__init__()
        self.p = p
        self.backbone = backbone
        h = p.head
        self.head = PrototypeHead(backbone.num_features, h.hidden, h.bottleneck, h.out, unit_length=h.norm_last_layer)  # type: ignore[arg-type]
        self.teacher_backbone = make_target(backbone)
        self.teacher_head = make_target(self.head)
        self.register_buffer("center", torch.zeros(h.out))
        self._seen: list[Tensor] = []  # the teacher's mean logits in this step

    def embed(self, views: list[Tensor], samples: Samples | None = None) -> Any:
        """Embed all views with the student and the global views (those of the first view's size) with the teacher."""
        students: list[Tensor] = []
        for _, same_size in groupby(views, key=lambda view: view.shape[-1]):  # one forward pass per size, as the authors do
            crops = list(same_size)
            logits = full_precision(self.head(representation(self.backbone, torch.cat(crops))))
            students += logits.chunk(len(crops))
        large = [view for view in views if view.shape[-1] == views[0].shape[-1]]
        with torch.no_grad():
            logits = full_precision(self.teacher_head(representation(self.teacher_backbone, torch.cat(large))))
        teachers = logits.chunk(len(large))
        return DINOEmbeddings(tuple(students), (*teachers, *[None] * (len(views) - len(large))))

    def losses(self, embedded: Any, progress: float) -> dict[str, Tensor]:
        """Return the loss of every sample, (B,)."""
        return {"loss": self.combination_losses(embedded, [tuple(range(len(embedded.students)))], progress)[0]}

    def combination_losses(self, embedded: Any, combinations: Combinations, progress: float) -> Tensor:
        """Return the loss of every sample for each view combination, (S, B); each view pair is scored once."""
        temperature = warmed(progress, self.p.teacher_temperature)
        probabilities = {
            t: F.softmax((g - self.center) / temperature, dim=1) for t, g in enumerate(embedded.teachers) if g is not None
        }
        logs = [F.log_softmax(g / self.p.student_temperature, dim=1) for g in embedded.students]
        terms = {(t, v): cross_entropies(probabilities[t], logs[v]) for t in probabilities for v in range(len(logs)) if t != v}
        pairs = [[terms[t, v] for t in views for v in views if (t, v) in terms] for views in combinations]
        return torch.stack([torch.stack(chosen).mean(0) for chosen in pairs])

    def after_backward(self, embedded: Any) -> None:
        """Collect the teacher's mean logits for the update of the centre."""
        self._seen.append(torch.cat([g for g in embedded.teachers if g is not None]).mean(0))

    def before_step(self, progress: float) -> dict[str, float | Tensor]:
        """Freeze the prototype layer at the beginning of training."""
        for name, parameter in self.head.last.named_parameters():
            if not (self.p.head.norm_last_layer and name.endswith("original0")):  # the lengths
                parameter.requires_grad_(progress > self.p.freeze_last_layer)
        return {"tau": self._momentum(progress)}

    def after_step(self, progress: float) -> None:
        """Update the teacher and the centre."""
        tau = self._momentum(progress)
        ema_update(self.teacher_backbone, self.backbone, tau)
        ema_update(self.teacher_head, self.head, tau)
        self.center.lerp_(distributed.all_reduce_mean(torch.stack(self._seen).mean(0)), 1 - self.p.center_momentum)
        self._seen.clear()

    def _momentum(self, progress: float) -> float:
        return schedules.ema_momentum(progress, self.p.ema_start)

    def candidate_recipe(self, views: Views, p: HardViews) -> Recipe:
        """Return a recipe with more global and local views than one view combination needs."""
        return multi_crop(views, p.candidates, p.local_candidates)

    def combinations(self, views: Views, p: HardViews) -> Combinations:
        """Return pairs of global views, each combined with every choice of `views.local.count` local views.

        A pair has one view of each colour recipe, which alternate among the candidates, as in Hard View Selection's code.
        """
        assert views.local is not None
        needed = views.local.count
        count = needed if p.local_candidates is None else p.local_candidates
        if count < needed:
            raise ValueError(f"hard_views.local_candidates must be at least views.local.count ({needed}), got {count}")
        pairs = [(i, j) for i in range(0, p.candidates, 2) for j in range(1, p.candidates, 2)]
        choices = comb(count, needed)
        if len(pairs) * choices > MAX_COMBINATIONS:
            raise ValueError(
                f"hard_views must have at most {MAX_COMBINATIONS} combinations, got "
                f"{len(pairs)} pairs of global views x {choices} choices of "
                f"{needed} of {count} local ones: lower candidates or local_candidates"
            )
        local = [tuple(p.candidates + i for i in chosen) for chosen in combinations(range(count), needed)]
        return [pair + chosen for pair in pairs for chosen in local]


def warmed(progress: float, p: WarmedTemperature) -> float:
    """Interpolate linearly from `start` to `end` over the first `warmup` fraction of training, then return `end`.

    It rises at every step; in the authors' code, DINO's and iBOT's, once an epoch.
    """
    return p.end if progress >= p.warmup else schedules.linear(progress / p.warmup, p.start, p.end)
