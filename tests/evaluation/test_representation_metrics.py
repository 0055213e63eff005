import math

import numpy as np
import pytest
import torch

from rsa.evaluation.representation_metrics import alpha_req, effective_rank, lidar, representation_metrics, shift


def gaussian(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_effective_rank_of_a_flat_spectrum_is_its_length():
    assert effective_rank(torch.full((7,), 3.0)) == pytest.approx(7, rel=1e-4)
    assert effective_rank(torch.tensor([1.0, 0.0, 0.0])) == pytest.approx(1, rel=1e-4)


def test_rankme_is_the_paper_written_again():
    aggressive, labels = gaussian(2, 50, 8), torch.zeros(50, dtype=torch.long)
    sigma = np.linalg.svd(aggressive[0].numpy(), compute_uv=False)
    p = sigma / sigma.sum() + 1e-7
    assert representation_metrics(aggressive, aggressive, labels).rankme == pytest.approx(math.exp(-(p * np.log(p)).sum()))


def test_lidar_counts_the_directions_that_tell_samples_apart():
    """200 samples that differ in 3 of 10 directions, views that differ in all."""
    centres = torch.zeros(1, 200, 10, dtype=torch.float64)
    centres[..., :3] = gaussian(1, 200, 3)
    views = centres + 0.01 * gaussian(4, 200, 10, seed=1)
    assert lidar(views) == pytest.approx(3, abs=0.3)
    assert effective_rank(torch.linalg.svdvals(views[0])) > 3.1  # RankMe counts the noise as well


def test_lidar_by_whitening_in_numpy():
    scales = torch.diag(torch.tensor([3.0, 2.0, 1.0, 0.5, 0.1], dtype=torch.float64))
    views = gaussian(3, 40, 5) @ scales + gaussian(1, 40, 5, seed=2)
    means = views.mean(0).numpy()
    off = [view - mean for crop in views.numpy() for view, mean in zip(crop, means, strict=True)]
    within = sum(np.outer(o, o) for o in off) / (40 * 2) + 1e-4 * np.eye(5)
    between = np.cov(means.T)
    spectrum = np.linalg.eigvals(np.linalg.solve(within, between)).real  # similar to the whitened matrix
    p = spectrum / spectrum.sum() + 1e-7
    assert lidar(views) == pytest.approx(math.exp(-(p * np.log(p)).sum()))


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_alpha_is_the_power_that_the_spectrum_falls_with(alpha: float):
    basis = torch.linalg.qr(gaussian(400, 20)).Q
    basis = torch.linalg.qr(basis - basis.mean(0)).Q  # centred, orthonormal
    h = basis * torch.arange(1, 21, dtype=torch.float64) ** (-alpha / 2)
    assert alpha_req(h) == pytest.approx(alpha, abs=0.01)
    assert alpha_req(torch.cat([h, torch.zeros(400, 30, dtype=torch.float64)], 1)) == pytest.approx(alpha, abs=0.01)


def test_alignment_and_uniformity_in_plain_loops():
    aggressive = gaussian(2, 12, 4)
    found = representation_metrics(aggressive, aggressive, torch.zeros(12, dtype=torch.long))
    x, y = (view / view.norm(dim=1, keepdim=True) for view in aggressive)
    assert found.alignment == pytest.approx(float(np.mean([float(((a - b) ** 2).sum()) for a, b in zip(x, y, strict=True)])))
    pairs = [math.exp(-2 * float(((x[i] - x[j]) ** 2).sum())) for i in range(12) for j in range(12) if i != j]
    assert found.uniformity == pytest.approx(math.log(np.mean(pairs)))


def test_shift_in_plain_loops():
    weak, aggressive = gaussian(2, 20, 3), gaussian(2, 20, 3, seed=1)
    labels = torch.arange(20) % 4
    unit = [view / view.norm() for crop in weak for view in crop]
    other = 0
    for place, view in enumerate(view for crop in aggressive for view in crop):
        near = max((i for i in range(40) if i != place), key=lambda i: float(unit[i] @ view))
        other += int(labels[near % 20] != labels[place % 20])
    assert shift(aggressive, weak, labels) == other / 40


def test_a_view_that_keeps_its_class_has_not_shifted_and_one_that_takes_anothers_place_has():
    centres = torch.eye(5, dtype=torch.float64).repeat_interleave(8, 0)[None].repeat(2, 1, 1) + 0.01 * gaussian(2, 40, 5)
    labels = torch.arange(5).repeat_interleave(8)
    assert shift(centres, centres, labels) == 0.0
    assert shift(centres.roll(8, dims=1), centres, labels) == 1.0


def test_a_view_is_not_compared_with_the_crop_that_it_was_made_from():
    """Each aggressive view equals its own weak view; the other crop of the sample lies elsewhere."""
    weak = torch.stack([torch.eye(4, dtype=torch.float64), torch.eye(4, dtype=torch.float64).roll(1, 0)])
    weak = weak + 0.1 * gaussian(2, 4, 4)
    assert shift(weak, weak, torch.arange(4)) == 1.0
