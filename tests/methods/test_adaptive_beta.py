"""The adaptive beta on losses whose two kinds are known."""

import itertools

import numpy as np
import pytest
import torch

from rsa.methods.adaptive_beta import AdaptiveBeta, mixture
from rsa.methods.rsa import RSA
from tests.methods.networks import Backbone, images
from tests.methods.sections import section

WINDOW = 512


def losses(clean: float, noisy: float, seed: int, count: int = 64, share: float = 0.3) -> torch.Tensor:
    random = np.random.default_rng(seed)
    which = random.random(count) < share
    return torch.tensor(
        np.where(which, random.normal(noisy, 0.15, count), random.normal(clean, 0.15, count)), dtype=torch.float32
    )


def run(beta: AdaptiveBeta, clean, noisy, steps: int, start: int = 0) -> list[float]:
    values = []
    for step in range(start, start + steps):
        beta.observe(losses(clean(step / 200), noisy(step / 200), step))
        beta.judge(0.5)
        values.append(float(beta(0.0)))
    return values


def test_beta_stays_while_clean_pairs_are_learnt_and_falls_when_noisy_ones_are_fitted():
    beta = AdaptiveBeta(start=0.4, end=0.0, window=WINDOW, after=0.0)
    learning = run(beta, clean=lambda t: 2.0 - 1.5 * t, noisy=lambda t: 2.5, steps=200)
    assert learning[: WINDOW // 64 - 1] == pytest.approx([0.4] * 7)  # until the window is full
    assert min(learning) > 0.3
    fitting = run(beta, clean=lambda t: 0.5, noisy=lambda t: 2.5 - 1.6 * (t - 1), steps=200, start=200)
    assert fitting[-1] < 0.2
    assert all(later <= earlier for earlier, later in itertools.pairwise(fitting))  # never rises


def test_the_mixture_finds_the_two_kinds():
    many = torch.cat([losses(0.5, 2.5, seed, share=0.3) for seed in range(20)]).clamp(min=0.1)
    (low, high), _, (share_low, share_high) = mixture(many)
    assert (low, high) == (pytest.approx(np.log(0.5), abs=0.1), pytest.approx(np.log(2.5), abs=0.1))
    assert (share_low, share_high) == (pytest.approx(0.7, abs=0.05), pytest.approx(0.3, abs=0.05))


def test_losses_that_fall_together_change_nothing():
    """The first version judged the gap of the losses themselves, and beta was 0 after thirty steps of any run."""
    beta = AdaptiveBeta(start=0.4, end=0.0, window=WINDOW, after=0.0)
    values = []
    for step in range(300):
        beta.observe(losses(1.0, 4.0, step) * 0.985**step)
        beta.judge(0.5)
        values.append(float(beta(0.0)))
    assert min(values) > 0.35


def test_nothing_is_judged_before_its_time():
    beta = AdaptiveBeta(start=0.4, end=0.0, window=64, after=0.3)
    for progress in (0.1, 0.2, 0.3):
        beta.observe(losses(0.5, 2.5, 1))
        beta.judge(progress)
    assert float(beta.gap) == 0
    beta.judge(0.31)
    assert float(beta.gap) > 0


def test_a_few_outliers_move_nothing():
    beta = AdaptiveBeta(start=0.4, end=0.0, window=WINDOW, after=0.0)
    before = run(beta, clean=lambda t: 0.5, noisy=lambda t: 2.5, steps=60)[-1]
    outliers = losses(0.5, 2.5, 99)
    outliers[:2] = 7.5
    beta.observe(outliers)
    beta.judge(0.5)
    assert float(beta(0.0)) == pytest.approx(before, abs=0.03)


def test_it_continues_to_the_bit_from_its_state():
    one = AdaptiveBeta(start=0.4, end=0.1, window=WINDOW, after=0.0)
    run(one, clean=lambda t: 1.0, noisy=lambda t: 2.5, steps=20)
    other = AdaptiveBeta(start=0.4, end=0.1, window=WINDOW, after=0.0)
    other.load_state_dict(one.state_dict())
    assert run(one, lambda t: 1.0, lambda t: 2.0, 20, 20) == run(other, lambda t: 1.0, lambda t: 2.0, 20, 20)
    assert float(one(0.5)) >= 0.1


def test_rsa_uses_it_by_name():
    torch.manual_seed(0)
    method = RSA(
        Backbone(), section("rsa", beta={"schedule": "adaptive", "start": 0.4, "end": 0.0, "window": 64, "after": 0.0})
    ).train()
    for _ in range(12):
        assert float(method.before_step(0.5)["beta"]) == pytest.approx(float(method.beta(0.5)))
        out = method.embed(images(8, 4))
        terms = method.losses(out, 0.5)
        beta = float(method.beta(0.5))
        torch.testing.assert_close(terms["loss"], beta * terms["aggressive"] + (1 - beta) * terms["weak"])
        method.after_backward(out)
        method.after_step(0.5)
    assert int(method.beta.filled) == 64
    assert torch.equal(method.beta.recent[-8:], terms["aggressive"].detach())
