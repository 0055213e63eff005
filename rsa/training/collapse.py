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
def health(embeddings: Tensor) -> dict[str, Tensor]:
    """Compute Health's metrics of embeddings (B, P), B at least 2, without waiting for the device."""
    z = F.normalize(embeddings.detach().double(), dim=1).nan_to_num()  # a loss that is not finite is reported, see loop.py
    products = z @ z.T
    smaller = products if len(z) <= z.shape[1] else z.T @ z  # both have the squared singular values
    squares = torch.linalg.eigvalsh(smaller)
    singular = torch.where(squares > 1e-12 * squares[-1], squares, 0.0).sqrt()  # smaller ones are rounding
    shares = singular / singular.sum() + 1e-7
    similarity = torch.exp(-2 * (2 - 2 * products)).fill_diagonal_(0)
    return {
        "embedding_std": z.std(0).mean() * z.shape[1] ** 0.5,
        "effective_rank": torch.exp(-(shares * shares.log()).sum()),
        "uniformity": (similarity.sum() / (len(z) * (len(z) - 1))).log(),
    }


def threshold_violation(health: Health, p: Collapse) -> str | None:
    """Return a message about the first limit of params.yaml that is violated, or None."""
    for name, least in (("embedding_std", p.min_std), ("effective_rank", p.min_rank)):
        if getattr(health, name) < least:
            return f"{name} must be at least {least} (pretrain.collapse), got {getattr(health, name):.4g}"
    return None


def require_health(health: Health, p: Collapse, step: int) -> None:
    """Raise CollapseError with the value and the limit if a limit of params.yaml is violated."""
    if wrong := threshold_violation(health, p):
        raise CollapseError(
            f"collapsed at step {step}: {wrong}; lower optimizer.base_lr, lengthen pretrain.warmup_epochs, "
            "or set runtime.on_collapse: mark"
        )
