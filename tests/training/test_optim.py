import numpy as np
import pytest
import torch
from torch import nn

from rsa.params.document import Params
from rsa.params.optimizer import LARS, SGD, AdamW
from rsa.params.pretrain import Pretrain
from rsa.training.optim import build_optimizer, clip_gradients, learning_rate, set_schedules
from tests.training.operators import Operators


def sgd(**changes: object) -> SGD:
    return SGD(
        **{"name": "sgd", "base_lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "clip_each": None, "clip_norm": None, **changes}
    )


def pretrain(tiny: Params, **changes: object) -> Pretrain:
    return Pretrain.model_validate({**tiny.pretrain.model_dump(), **changes})


@pytest.mark.parametrize(
    ("batch_size", "peak"),
    [(256, 0.1), (512, 0.2), (128, 0.05), (64, 0.025), (300, 0.1171875), (2, 0.00078125)],  # never floored to 0
)
def test_peak_learning_rate_is_base_lr_times_batch_over_256(tiny: Params, batch_size: int, peak: float):
    lr = learning_rate(sgd(), pretrain(tiny, batch_size=batch_size, epochs=10, warmup_epochs=0), 0.0)
    assert lr == pytest.approx(peak, rel=1e-12)


def test_learning_rate_over_a_run_with_warmup(tiny: Params):
    p = pretrain(tiny, batch_size=128, epochs=10, warmup_epochs=2)
    values = [
        learning_rate(sgd(), p, progress) for progress in (0.1, 0.2, 0.6, 1.0)
    ]  # half of the warm-up, its end, half of the rest, the end
    assert values == pytest.approx([0.025, 0.05, 0.025, 0.0])


def test_optimizer_steps_as_sgd_with_momentum_and_weight_decay_written_again():
    module = nn.Linear(2, 1, bias=True)
    optimizer = build_optimizer(module.parameters(), (), sgd())
    weights = {name: p.detach().double().numpy().copy() for name, p in module.named_parameters()}
    velocity = {name: np.zeros_like(w) for name, w in weights.items()}
    for lr, gradient in ((0.5, 1.0), (0.25, -2.0), (0.1, 0.5)):
        optimizer.zero_grad()
        for group in optimizer.param_groups:
            group["lr"] = lr
        for name, p in module.named_parameters():
            p.grad = torch.full_like(p, gradient)
            velocity[name] = 0.9 * velocity[name] + gradient + 0.01 * weights[name]
            weights[name] = weights[name] - lr * velocity[name]
        optimizer.step()
    for name, p in module.named_parameters():
        np.testing.assert_allclose(p.detach().numpy(), weights[name], rtol=1e-5)


def test_weight_decay_shrinks_weights_without_a_gradient_signal():
    module = nn.Linear(2, 1)
    optimizer = build_optimizer(module.parameters(), (), sgd(momentum=0.0, weight_decay=0.5))
    before = module.weight.detach().clone()
    module.weight.grad, module.bias.grad = torch.zeros_like(module.weight), torch.zeros_like(module.bias)
    optimizer.param_groups[0]["lr"] = 0.1
    optimizer.step()
    torch.testing.assert_close(module.weight.detach(), before * (1 - 0.1 * 0.5))


def test_target_networks_are_left_out():
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).requires_grad_(False))
    inside = {id(p) for group in build_optimizer(module.parameters(), (), sgd()).param_groups for p in group["params"]}
    assert inside == {id(p) for p in module[0].parameters()}


def lars(**changes: object) -> LARS:
    return LARS(
        **{
            "name": "lars",
            "base_lr": 0.2,
            "vector_base_lr": None,
            "end_share": 0.0,
            "momentum": 0.9,
            "weight_decay": 1e-3,
            "trust": 0.01,
            "clip_each": None,
            "clip_norm": None,
            **changes,
        }
    )


def adamw(**changes: object) -> AdamW:
    return AdamW(
        **{
            "name": "adamw", "base_lr": 1e-3, "end_lr": 1e-5, "betas": (0.9, 0.999), "weight_decay": 0.04,
            "end_weight_decay": 0.4, "decay_all": False, "clip_each": None, "clip_norm": None, **changes,
        }
    )  # fmt: skip


def test_lars_is_the_authors_written_again():
    """u = g + decay w; a matrix moves by its momentum of trust |w| / |u| u (1 where either is 0), a bias by that of g alone."""
    torch.manual_seed(0)
    module = nn.ParameterList([torch.randn(2, 3), torch.zeros(1, 4), torch.randn(2, 2), torch.randn(5)]).double()
    optimizer = build_optimizer(module.parameters(), (), lars(weight_decay=0.3))
    weights = [w.detach().numpy().copy() for w in module]
    velocities = [np.zeros_like(w) for w in weights]
    random = np.random.default_rng(0)
    for lr in (0.5, 0.25, 0.1):
        for group in optimizer.param_groups:
            group["lr"] = lr
        for i, w in enumerate(weights):
            g = random.normal(size=w.shape)
            module[i].grad = torch.tensor(g)
            if w.ndim > 1:
                g = g + 0.3 * w
                g *= 0.01 * np.sqrt((w**2).sum() / (g**2).sum()) if w.any() else 1
            velocities[i] = 0.9 * velocities[i] + g
            weights[i] = w - lr * velocities[i]
        optimizer.step()
    for got, want in zip(module, weights, strict=True):
        np.testing.assert_allclose(got.detach(), want, rtol=1e-12)


@pytest.mark.parametrize("weights", [1, 30])
def test_a_step_of_lars_has_few_operators_whatever_the_number_of_weights(weights: int):
    """On a GPU each is a kernel or two."""
    module = nn.ModuleList(nn.Linear(3, 2) for _ in range(weights))
    optimizer = build_optimizer(module.parameters(), (), lars())
    for first in (True, False):
        for parameter in module.parameters():
            parameter.grad = torch.ones_like(parameter)
        with Operators() as operators:
            optimizer.step()
        assert first or operators.count.total() <= 22


def test_adamw_decays_matrices_only():
    module = nn.Linear(3, 2)
    before = module.weight.detach().clone(), module.bias.detach().clone()
    optimizer = build_optimizer(module.parameters(), (), adamw())
    module.weight.grad, module.bias.grad = torch.zeros_like(module.weight), torch.zeros_like(module.bias)
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    optimizer.step()
    torch.testing.assert_close(module.weight.detach(), before[0] * (1 - 0.1 * 0.04))
    assert torch.equal(module.bias.detach(), before[1])


def test_adamw_decays_everything_on_request():
    optimizer = build_optimizer(nn.Linear(3, 2).parameters(), (), adamw(decay_all=True))
    assert [(len(group["params"]), group["weight_decay"]) for group in optimizer.param_groups] == [(2, 0.04)]


@pytest.mark.parametrize(
    ("progress", "lr", "decay"), [(0.1, 0.5e-3, 0.048809), (0.2, 1e-3, 0.074377), (0.6, 0.505e-3, 0.275623), (1.0, 1e-5, 0.4)]
)
def test_rates_and_decays_over_a_run(tiny: Params, progress: float, lr: float, decay: float):
    """DINO's: warmed up over the first fifth, then a cosine to end_lr; decay a cosine from 0.04 to 0.4. By hand."""
    module = nn.Linear(3, 2)
    optimizer = build_optimizer(module.parameters(), (), adamw())
    p = pretrain(tiny, batch_size=256, epochs=10, warmup_epochs=2)
    assert set_schedules(optimizer, adamw(), p, progress) == {
        "lr": pytest.approx(lr),
        "weight_decay": pytest.approx(decay, rel=1e-4),
    }
    by_shape = {group["params"][0].ndim: group for group in optimizer.param_groups}
    assert [by_shape[n]["weight_decay"] for n in (2, 1)] == [pytest.approx(decay, rel=1e-4), 0.0]
    assert [group["lr"] for group in optimizer.param_groups] == [pytest.approx(lr)] * 2


@pytest.mark.parametrize("step", [1, 400, 800, 4400, 8000])
def test_rates_of_barlow_twins_are_the_authors_written_again(tiny: Params, step: int):
    """10 of 100 epochs of 80 steps warm up, then a cosine to a thousandth; 0.0048 for biases and norms, 0.2 for weights."""
    scale = 2048 / 256
    q = (1 + np.cos(np.pi * (step - 800) / 7200)) / 2
    want = scale * step / 800 if step < 800 else scale * q + scale * 0.001 * (1 - q)
    module, p = nn.Linear(3, 2), lars(base_lr=0.2, vector_base_lr=0.0048, end_share=0.001)
    optimizer = build_optimizer(module.parameters(), (), p)
    recorded = set_schedules(optimizer, p, pretrain(tiny, batch_size=2048, epochs=100, warmup_epochs=10), step / 8000)
    rates = {group["params"][0].ndim: group["lr"] for group in optimizer.param_groups}
    assert rates == {2: pytest.approx(0.2 * want), 1: pytest.approx(0.0048 * want)}
    assert recorded == {"lr": pytest.approx(0.2 * want)}


def test_a_constant_rate_stays_at_the_peak(tiny: Params):
    """SimSiam's predictor."""
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    optimizer = build_optimizer(module.parameters(), module[1].parameters(), sgd())
    set_schedules(optimizer, sgd(), pretrain(tiny, batch_size=512, epochs=10, warmup_epochs=0), 1.0)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert {rates[id(p)] for p in module[0].parameters()} == {0.0}
    assert {rates[id(p)] for p in module[1].parameters()} == {0.2}


def test_gradients_are_clipped_one_by_one():
    long, short = nn.Parameter(torch.zeros(4)), nn.Parameter(torch.zeros(2))
    long.grad, short.grad = torch.full((4,), 5.0), torch.tensor([0.3, 0.4])
    clip_gradients([long, short], sgd(clip_each=3.0))
    torch.testing.assert_close(long.grad, torch.full((4,), 1.5))  # from 10 to 3
    torch.testing.assert_close(short.grad, torch.tensor([0.3, 0.4]))
    clip_gradients([long, short], sgd(clip_norm=1.0))  # the whole norm is sqrt(9.25)
    torch.testing.assert_close(long.grad, torch.full((4,), 1.5 / 9.25**0.5))
    torch.testing.assert_close(short.grad, torch.tensor([0.3, 0.4]) / 9.25**0.5)
