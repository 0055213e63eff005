"""Detection of representation collapse: three metrics for the curve, and the limits that params.yaml sets."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rsa.params.pretrain import Collapse


class CollapseError(ArithmeticError):
    """The error of a run whose embeddings have collapsed to one point or to too few dimensions."""


class Health(NamedTuple):
    """Metrics of a batch of embeddings scaled to unit length."""

    embedding_std: float  # mean over dimensions of the standard deviation, x sqrt(P): 0 collapsed, 1 isotropic (SimSiam, 4.1)
    effective_rank: float  # RankMe (Garrido et al. 2023, equation 1): exp of the entropy of the singular values
    uniformity: float  # log mean exp(-2 |x - y|^2) over pairs (Wang and Isola 2020); 0 collapsed, -4 or less spread out


@torch.no_grad()
def health(embeddings: Tensor) -> Health:
    """Compute the metrics of embeddings (B, P), B at least 2."""
    z = F.normalize(embeddings.detach().double(), dim=1)
    singular = torch.linalg.svdvals(z)
    shares = singular / singular.sum() + 1e-7
    distances = 2 - 2 * (z @ z.T)
    pairs = ~torch.eye(len(z), dtype=torch.bool, device=z.device)
    return Health(
        float(z.std(0).mean() * z.shape[1] ** 0.5),
        float(torch.exp(-(shares * shares.log()).sum())),
        float(torch.exp(-2 * distances[pairs]).mean().log()),
    )


def threshold_violation(found: Health, p: Collapse) -> str | None:
    """Return a message about the first limit of params.yaml that is violated, or None."""
    for name, least in (("embedding_std", p.min_std), ("effective_rank", p.min_rank)):
        if getattr(found, name) < least:
            return f"{name} must be at least {least} (pretrain.collapse), got {getattr(found, name):.4g}"
    return None


def require_health(found: Health, p: Collapse, step: int) -> None:
    """Raise CollapseError with the value and the limit if a limit of params.yaml is violated."""
    if wrong := threshold_violation(found, p):
        raise CollapseError(
            f"collapsed at step {step}: {wrong}; lower optimizer.base_lr, lengthen pretrain.warmup_epochs, "
            "or set runtime.on_collapse: mark"
        )
