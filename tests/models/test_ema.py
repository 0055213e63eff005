import torch
from torch import nn

from rsa.models.ema import ema_update, make_target


def linear(value: float) -> nn.Module:
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(value)
    return module


def test_hand_computed_average_over_three_steps():
    online, target = linear(1.0), make_target(linear(0.0))
    for momentum, value in ((0.9, 0.1), (0.5, 0.55), (0.0, 1.0)):  # 0.9 * 0 + 0.1; 0.5 * 0.1 + 0.5; online itself
        ema_update(target, online, momentum)
        for parameter in target.parameters():
            torch.testing.assert_close(parameter, torch.full_like(parameter, value))


def test_momentum_1_moves_nothing_and_the_online_network_never_moves():
    online, target = linear(1.0), make_target(linear(0.0))
    ema_update(target, online, 1.0)
    assert all(torch.equal(parameter, torch.zeros_like(parameter)) for parameter in target.parameters())
    ema_update(target, online, 0.5)
    assert all(torch.equal(parameter, torch.ones_like(parameter)) for parameter in online.parameters())


def test_buffers_are_not_averaged():
    online, target = linear(1.0), make_target(linear(0.0))
    online[1].running_mean.fill_(5.0)
    ema_update(target, online, 0.5)
    assert torch.equal(target[1].running_mean, torch.zeros(2))


def test_target_gets_no_gradient_and_stays_in_train_mode():
    online = linear(1.0).train()
    target = make_target(online)
    assert not any(parameter.requires_grad for parameter in target.parameters())
    assert all(parameter.requires_grad for parameter in online.parameters())
    assert target.training
