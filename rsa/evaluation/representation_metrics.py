"""Metrics of a representation that need no classifier, and the semantic shift of aggressive views.

The input is N samples in several crops; each crop has a weak view and an aggressive view derived from it.
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

NEAREST_CHUNK = 2048  # rows of a matrix of cosines at a time


class RepresentationMetrics(NamedTuple):
    """Metrics of one encoder's representations."""

    rankme: float  # effective rank of the aggressive views' representations
    lidar: float  # effective rank of the between-sample scatter, whitened by the within-sample scatter
    alpha: float  # the i-th eigenvalue of the covariance falls as i^-alpha; near 1 is best
    alignment: float  # mean |x - y|^2 of unit-length aggressive views of one sample
    uniformity: float  # log mean exp(-2 |x - y|^2) over pairs of samples
    shift_weak: float  # share of weak views whose nearest weak view of another crop has another class
    shift_aggressive: float  # the same of aggressive views


def representation_metrics(weak: Tensor, aggressive: Tensor, labels: Tensor) -> RepresentationMetrics:
    """Measure the representations of weak and aggressive views, each (crops, N, D), of samples with `labels` (N,).

    The weak and the aggressive view at the same place share a crop; there must be at least two crops.
    """
    first, second = aggressive[0].double(), aggressive[1].double()
    x, y = F.normalize(first, dim=1), F.normalize(second, dim=1)
    away = ~torch.eye(len(x), dtype=torch.bool)
    return RepresentationMetrics(
        effective_rank(torch.linalg.svdvals(first)),
        lidar(aggressive.double()),
        alpha_req(first),
        float((x - y).square().sum(1).mean()),
        float(torch.exp(-2 * (2 - 2 * x @ x.T)[away]).mean().log()),
        shift(weak, weak, labels),
        shift(aggressive, weak, labels),
    )


def effective_rank(spectrum: Tensor) -> float:
    """Return exp of the entropy of a non-negative spectrum's shares (RankMe, Garrido et al. 2023, equation 1)."""
    shares = spectrum / spectrum.sum() + 1e-7
    return float(torch.exp(-(shares * shares.log()).sum()))


def lidar(views: Tensor, delta: float = 1e-4) -> float:
    """Return LiDAR (Thilak et al. 2024, equations 1 to 3) of (views, N, D): the effective rank of S_w^-1/2 S_b S_w^-1/2.

    S_b is the covariance of the samples' means, S_w that of the views about these means, with `delta` added to its diagonal.
    """
    count, samples, _ = views.shape
    means = views.mean(0)
    between = torch.cov(means.T)
    off = (views - means).flatten(0, 1)
    within = off.T @ off / (samples * (count - 1)) + delta * torch.eye(views.shape[2], dtype=views.dtype)
    values, vectors = torch.linalg.eigh(within)
    whiten = vectors @ torch.diag(values.rsqrt()) @ vectors.T
    return effective_rank(torch.linalg.eigvalsh(whiten @ between @ whiten).clamp(min=0))


def alpha_req(h: Tensor) -> float:
    """Return alpha-ReQ (Agrawal et al. 2022) of (N, D): minus the slope of log eigenvalue over log rank, by least squares.

    Only eigenvalues that N samples can tell from 0 count: those above the largest x max(N, D) x machine precision. Infinity if
    fewer than two are left.
    """
    eigenvalues = torch.linalg.svdvals(h - h.mean(0)).square() / (len(h) - 1)
    limit = eigenvalues[0] * max(h.shape) * torch.finfo(h.dtype).eps
    values = eigenvalues[eigenvalues > limit].numpy()
    if len(values) < 2:
        return float("inf")
    return float(-np.polyfit(np.log(np.arange(1, len(values) + 1)), np.log(values), 1)[0])


def shift(views: Tensor, weak: Tensor, labels: Tensor) -> float:
    """Return the semantic shift: the share of `views` (crops, N, D) whose nearest weak view by cosine has another class.

    A view is never compared with the weak view of its own crop, from which it was made or with which it is identical.
    """
    crops, samples, _ = views.shape
    references = F.normalize(weak.flatten(0, 1).float(), dim=1)
    queries = F.normalize(views.flatten(0, 1).float(), dim=1)
    classes = labels.repeat(crops)
    other = 0
    for start in range(0, crops * samples, NEAREST_CHUNK):
        rows = torch.arange(start, min(start + NEAREST_CHUNK, crops * samples))
        cosines = queries[rows] @ references.T
        cosines[torch.arange(len(rows)), rows] = -torch.inf
        other += int((classes[cosines.argmax(1)] != classes[rows]).sum())
    return other / (crops * samples)
