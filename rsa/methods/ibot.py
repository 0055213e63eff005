"""iBOT, Zhou et al. 2022 (ICLR), https://arxiv.org/abs/2111.07832

    L = L_[CLS] + w L_MIM,   L_MIM = mean over global views of mean over masked patches i of H(P_t(u_i), P_s(u^_i))  (eq. 1 to 3)

L_[CLS] is DINO's loss. The student sees global views with blocks of patches replaced by a mask token, u^; the teacher sees
the unmasked views, u. The class token and the patches share one head. Patches have their own centre and teacher temperature.

Hard View Selection chooses among global views only, of which the first is coloured as the first view of a pair and all others
as the second.

Differences from the papers: masks are drawn per view position, so a view scored with one mask may train with another; a
combination is scored by the whole loss, local views and patches included.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import combinations
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rsa import distributed
from rsa.data.masks import Masks, draw_masks
from rsa.data.samples import Samples
from rsa.data.transfer import upload
from rsa.data.views import Recipe, View, color_of, multi_crop
from rsa.methods.dino import DINO, SelfDistillation, WarmedTemperature, warmed
from rsa.methods.method import Combinations
from rsa.models.backbones import full_precision
from rsa.params.hard_views import HardViews
from rsa.params.section import NonNegative
from rsa.params.views import Views


class Settings(SelfDistillation):
    """iBOT's section of `methods`."""

    method: Literal["ibot"]
    masks: Masks
    patch_weight: NonNegative
    patch_temperature: WarmedTemperature


class Patches(NamedTuple):
    """Logits of the M masked patches of a view's batch."""

    student: Tensor  # (M, K)
    teacher: Tensor  # (M, K), no gradient
    sample: Tensor  # (M,): index of each patch's sample
    per_sample: Tensor  # (B,): masked patches of each sample
    teacher_mean: Tensor  # (K,), over all patches


class IBOTEmbeddings(NamedTuple):
    """DINO's logits, and the logits of the patches of global views."""

    students: tuple[Tensor, ...]  # (B, K)
    teachers: tuple[Tensor | None, ...]  # (B, K), no gradient; None for a local view
    patches: tuple[Patches | None, ...]


@contextmanager
def masked(backbone: nn.Module, token: Tensor, mask: Tensor) -> Iterator[None]:
    """Context in which the backbone sees `token` (1, D) in place of the patches under `mask` (B, rows, columns)."""

    def replace(_: nn.Module, __: Any, out: Tensor) -> Tensor:
        where = mask if out.ndim == 4 else mask.flatten(1)  # patches as a grid or flattened
        return torch.where(where[..., None], token.to(out.dtype), out)

    handle = backbone.get_submodule("patch_embed").register_forward_hook(replace)
    try:
        yield
    finally:
        handle.remove()


class IBOT(DINO):
    """DINO and masked image modelling with the teacher as tokenizer; for timm's ViTs."""

    patch_center: Tensor

    def __init__(self, backbone: nn.Module, p: Settings) -> None:
        for needed in ("patch_embed", "forward_head", "num_prefix_tokens"):
            if not hasattr(backbone, needed):
                raise ValueError(f"ibot must have a ViT of timm's as model.backbone: {type(backbone).__name__} has no {needed}")
        super().__init__(backbone, p)
        self.ibot = p
        self.mask_token = nn.Parameter(torch.zeros(1, int(backbone.num_features)))  # type: ignore[arg-type]  # a matrix: decayed
        self.register_buffer("patch_center", torch.zeros(p.head.out))
        self._patches_seen: list[Tensor] = []

    def embed(self, views: list[Tensor], samples: Samples | None = None) -> IBOTEmbeddings:
        """Embed masked global views and local views with the student, unmasked global views with the teacher."""
        assert samples is not None
        students: list[Tensor] = []
        teachers: list[Tensor | None] = []
        patches: list[Patches | None] = []
        for place, view in enumerate(views):
            if view.shape[-1] != views[0].shape[-1]:
                students.append(full_precision(self.head(self._tokens(self.backbone, view)[0])))
                teachers.append(None)
                patches.append(None)
                continue
            grid = tuple(size // step for size, step in zip(view.shape[2:], self.backbone.patch_embed.patch_size, strict=True))  # type: ignore[union-attr, arg-type]
            drawn = torch.from_numpy(draw_masks(self.ibot.masks, samples, place, grid))
            rows = drawn.flatten().nonzero()[:, 0]  # of the M masked patches; found on the CPU, which need not wait for the GPU
            mask, rows, per_sample = (upload(x, view.device) for x in (drawn, rows, drawn.sum((1, 2))))
            with masked(self.backbone, self.mask_token, mask):
                representation, tokens = self._tokens(self.backbone, view)
            students.append(full_precision(self.head(representation)))
            with torch.no_grad():
                representation, teacher_tokens = self._tokens(self.teacher_backbone, view)
                teachers.append(full_precision(self.teacher_head(representation)))
                all_logits = full_precision(self.teacher_head(teacher_tokens))  # (B, N, K)
            student = full_precision(self.head(tokens.flatten(0, 1)[rows]))
            teacher, sample = all_logits.flatten(0, 1)[rows], rows // tokens.shape[1]
            patches.append(Patches(student, teacher, sample, per_sample, all_logits.mean((0, 1))))
        return IBOTEmbeddings(tuple(students), tuple(teachers), tuple(patches))

    def candidate_recipe(self, views: Views, p: HardViews) -> Recipe:
        """Return a recipe with more global views than one view combination needs."""
        recipe = multi_crop(views, p.candidates)
        further = [View(i, color_of(views, 1)) for i in range(2, p.candidates)]
        return Recipe(recipe.crops, recipe.views[:2] + further + recipe.views[p.candidates :])

    def combinations(self, views: Views, p: HardViews) -> Combinations:
        """Return all pairs of global views, each combined with all local views."""
        if p.local_candidates is not None:
            raise ValueError(f"hard_views.local_candidates must be null for ibot, got {p.local_candidates}")
        assert views.local is not None
        local = tuple(range(p.candidates, p.candidates + views.local.count))
        return [pair + local for pair in combinations(range(p.candidates), 2)]

    @staticmethod
    def _tokens(backbone: Any, view: Tensor) -> tuple[Tensor, Tensor]:
        """Return the representation h (B, D) and the patch tokens (B, N, D)."""
        tokens = backbone.forward_features(view)
        return backbone.forward_head(tokens, pre_logits=True), tokens[:, backbone.num_prefix_tokens :]

    def losses(self, embedded: Any, progress: float) -> dict[str, Tensor]:
        """Return the loss of every sample and its two terms, (B,)."""
        everything: Combinations = [tuple(range(len(embedded.students)))]
        cls = super().combination_losses(embedded, everything, progress)[0]
        patches = torch.stack(list(self._patch_losses(embedded, progress).values())).mean(0)
        return {"loss": cls + self.ibot.patch_weight * patches, "cls": cls.detach(), "patches": patches.detach()}

    def combination_losses(self, embedded: Any, combinations: Combinations, progress: float) -> Tensor:
        """Return the loss of every sample for each view combination, (S, B)."""
        patches = self._patch_losses(embedded, progress)
        mean = torch.stack([torch.stack([patches[v] for v in views if v in patches]).mean(0) for views in combinations])
        return super().combination_losses(embedded, combinations, progress) + self.ibot.patch_weight * mean

    def _patch_losses(self, embedded: Any, progress: float) -> dict[int, Tensor]:
        """Return, for each global view, the mean loss over each sample's masked patches (0 if it has none), (B,)."""
        temperature = warmed(progress, self.ibot.patch_temperature)
        losses = {}
        for view, patches in enumerate(embedded.patches):
            if patches is not None:
                target = F.softmax((patches.teacher - self.patch_center) / temperature, dim=1)
                each = -(target * F.log_softmax(patches.student / self.p.student_temperature, dim=1)).sum(1)  # (M,)
                total = each.new_zeros(len(patches.per_sample)).index_add(0, patches.sample, each)
                losses[view] = total / patches.per_sample.clamp(min=1)
        return losses

    def after_backward(self, embedded: Any) -> None:
        """Collect the teacher's mean logits for the update of both centres."""
        super().after_backward(embedded)
        self._patches_seen.append(torch.stack([patches.teacher_mean for patches in embedded.patches if patches]).mean(0))

    def after_step(self, progress: float) -> None:
        """Update the teacher and both centres."""
        super().after_step(progress)
        mean = distributed.all_reduce_mean(torch.stack(self._patches_seen).mean(0))
        self.patch_center.lerp_(mean, 1 - self.p.center_momentum)
        self._patches_seen.clear()
