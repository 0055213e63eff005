import numpy as np
import pytest
import torch
from scipy.special import hyp0f1

from rsa.params.pretrain import Collapse
from rsa.training.collapse import CollapseError, Health, require_health, threshold_violation
from rsa.training.collapse import health as metrics


def health(embeddings: torch.Tensor) -> Health:
    return Health(**{name: float(value) for name, value in metrics(embeddings).items()})


def test_isotropic_embeddings_are_healthy():
    torch.manual_seed(0)
    found = health(torch.randn(2000, 16))
    assert found.embedding_std == pytest.approx(1.0, abs=0.02)
    assert found.effective_rank == pytest.approx(16, abs=0.2)
    # log E exp(-2 |x - y|^2) = -4 + log 0F1(8, 4), the moment generating function of a cosine in 16 dimensions
    assert found.uniformity == pytest.approx(-4 + np.log(hyp0f1(8, 4)), abs=0.02)


def test_one_point_is_a_collapse_and_one_line_a_dimensional_one():
    point = health(torch.ones(50, 8))
    assert (point.embedding_std, point.uniformity) == (pytest.approx(0, abs=1e-9), pytest.approx(0, abs=1e-9))
    assert point.effective_rank == pytest.approx(1, abs=1e-3)
    torch.manual_seed(0)
    line = health(torch.randn(50, 1) * torch.ones(1, 8))
    assert line.effective_rank == pytest.approx(1, abs=1e-3)


def test_the_numbers_are_the_papers_written_again():
    x = np.random.default_rng(0).normal(size=(9, 4)) + 1
    z = x / np.linalg.norm(x, axis=1, keepdims=True)
    s = np.linalg.svd(z, compute_uv=False)
    shares = s / s.sum() + 1e-7
    pairs = [np.exp(-2 * ((z[i] - z[j]) ** 2).sum()) for i in range(9) for j in range(9) if i != j]
    want = (z.std(0, ddof=1).mean() * 2, np.exp(-(shares * np.log(shares)).sum()), np.log(np.mean(pairs)))
    assert health(torch.tensor(x)) == pytest.approx(want)


def test_limits_name_the_number_and_the_step():
    limits = Collapse(after=0.0, min_std=0.01, min_rank=1.5)
    bad = health(torch.ones(50, 8))
    assert (
        threshold_violation(bad, limits)
        == f"embedding_std must be at least 0.01 (pretrain.collapse), got {bad.embedding_std:.4g}"
    )
    with pytest.raises(CollapseError, match=r"collapsed at step 7: embedding_std must be at least 0.01"):
        require_health(bad, limits, 7)
    assert threshold_violation(health(torch.eye(8)), limits) is None
