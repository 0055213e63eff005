import numpy as np
import pytest
import torch
from torch import nn

from rsa.params import SGD, Params, Pretrain
from rsa.training.optim import build_optimizer, learning_rate


def sgd(**changes: object) -> SGD:
    return SGD(**{"name": "sgd", "base_lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "clip": None, **changes})


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
