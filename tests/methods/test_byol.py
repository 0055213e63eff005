import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from rsa.methods.byol import BYOL, BYOLEmbeddings, distance, unit
from rsa.params.document import Params
from tests.methods.networks import Backbone, images
from tests.methods.paper import d, numeric_gradient


@pytest.fixture
def method(tiny: Params) -> BYOL:
    torch.manual_seed(0)
    return BYOL(Backbone(), tiny.methods["byol"]).train()


@pytest.fixture
def arrays() -> list[np.ndarray]:
    """q1, q2, z1, z2: (B, P) each, float64."""
    return list(np.random.default_rng(0).normal(size=(4, 6, 3)))


def embedded(q1, q2, z1, z2) -> BYOLEmbeddings:
    q1, q2, z1, z2 = (torch.as_tensor(x) for x in (q1, q2, z1, z2))
    return BYOLEmbeddings((q1, q2), (z1, z2))


def test_loss_of_every_sample_equals_the_paper_written_again(method: BYOL, arrays: list[np.ndarray]):
    q1, q2, z1, z2 = arrays
    got = method.losses(embedded(*arrays), 0.5)["loss"]
    assert got.shape == (6,)
    np.testing.assert_allclose(got, d(q1, z2) + d(q2, z1), rtol=1e-12)


def test_gradient_equals_finite_differences(method: BYOL, arrays: list[np.ndarray]):
    q1, q2, z1, z2 = arrays
    first, second = torch.tensor(q1, requires_grad=True), torch.tensor(q2, requires_grad=True)
    method.losses(embedded(first, second, z1, z2), 0.5)["loss"].mean().backward()
    np.testing.assert_allclose(first.grad, numeric_gradient(lambda q: (d(q, z2) + d(q2, z1)).mean(), q1), atol=1e-8)
    np.testing.assert_allclose(second.grad, numeric_gradient(lambda q: (d(q1, z2) + d(q, z1)).mean(), q2), atol=1e-8)


def test_loss_of_the_network_equals_the_paper_from_its_own_outputs(method: BYOL):
    x1, x2 = images(8, 2)
    first, second = copy.deepcopy(method), copy.deepcopy(method)
    q1, q2 = (first.predictor(first.projector(first.backbone(x))).detach().double().numpy() for x in (x1, x2))
    z1, z2 = (second.target_projector(second.target_backbone(x)).double().numpy() for x in (x1, x2))
    got = method.losses(method.embed([x1, x2]), 0.5)["loss"].detach()
    np.testing.assert_allclose(got, d(q1, z2) + d(q2, z1), rtol=1e-4)


@pytest.mark.parametrize("scale", [1.0, 7.0])
def test_distance_of_equal_opposite_and_orthogonal_vectors(scale: float):
    q = torch.tensor([[3.0, 4.0], [3.0, 4.0], [3.0, 4.0]])
    z = scale * torch.tensor([[3.0, 4.0], [-3.0, -4.0], [-4.0, 3.0]])
    torch.testing.assert_close(distance(unit((q, q)), unit((z, z))), torch.tensor([0.0, 8.0, 4.0]))
    torch.testing.assert_close(distance(unit((q, q)), unit((z, q))), torch.tensor([0.0, 4.0, 2.0]))


def test_swapping_the_views_swaps_nothing_in_the_loss(method: BYOL):
    first, second = images(8, 2)
    one = method.losses(copy.deepcopy(method).embed([first, second]), 0.5)["loss"]
    other = method.losses(copy.deepcopy(method).embed([second, first]), 0.5)["loss"]
    torch.testing.assert_close(one, other)


def test_no_gradient_reaches_the_target_network_or_its_outputs(method: BYOL):
    out = method.embed(images(8, 2))
    assert not any(z.requires_grad for z in out.targets)
    method.losses(out, 0.5)["loss"].mean().backward()
    for name, parameter in method.named_parameters():
        if name.startswith("target_"):
            assert parameter.grad is None
            assert not parameter.requires_grad
        else:
            assert parameter.grad is not None, name


def test_target_starts_as_a_copy_that_shares_nothing(method: BYOL):
    online = {**method.backbone.state_dict(prefix="backbone."), **method.projector.state_dict(prefix="projector.")}
    for name, tensor in online.items():
        target = method.get_parameter(f"target_{name}") if "running" not in name and "tracked" not in name else None
        if target is not None:
            assert torch.equal(target, tensor)
            assert target.data_ptr() != tensor.data_ptr()


@pytest.mark.parametrize(("progress", "tau"), [(1 / 3, 0.925), (0.5, 0.95), (1.0, 1.0)])
def test_target_moves_by_hand_computed_tau(method: BYOL, progress: float, tau: float):
    """ema_start is 0.9 in tiny.yaml: tau = 1 - 0.1 (cos(pi p) + 1) / 2."""
    with torch.no_grad():
        for parameter in method.target_backbone.parameters():
            parameter.fill_(2.0)
        for parameter in method.backbone.parameters():
            parameter.fill_(4.0)
    assert method.before_step(progress) == {"tau": pytest.approx(tau)}
    for parameter in method.target_backbone.parameters():
        torch.testing.assert_close(parameter, torch.full_like(parameter, 2 * tau + 4 * (1 - tau)))


def test_every_online_parameter_has_its_moving_target_but_the_predictor(method: BYOL):
    with torch.no_grad():
        for parameter in method.parameters():
            if parameter.requires_grad:
                parameter.add_(1.0)
    before = {name: p.clone() for name, p in method.named_parameters()}
    method.before_step(0.0)
    for name, parameter in method.named_parameters():
        assert torch.equal(parameter, before[name]) != name.startswith("target_"), name


def test_buffers_of_the_target_are_its_own_and_its_batch_norms_train(method: BYOL):
    """Fed only by what the target sees: exactly one momentum step towards its own batch's statistics per forward."""
    x1, x2 = images(8, 2)
    norm = method.target_backbone.get_submodule("norm")
    with torch.no_grad():
        method.target_backbone.get_submodule("conv").weight.mul_(3.0)  # so that both networks see other statistics
        mean = torch.zeros(5)
        for x in (x1, x2):
            mean = 0.9 * mean + 0.1 * method.target_backbone.conv(x).mean((0, 2, 3))
    method.embed([x1, x2])
    torch.testing.assert_close(norm.running_mean, mean)
    assert int(norm.num_batches_tracked) == 2
    method.before_step(0.0)  # tau 0.9: parameters move ...
    torch.testing.assert_close(norm.running_mean, mean)  # ... statistics do not
    assert not torch.equal(norm.running_mean, method.backbone.get_submodule("norm").running_mean)


def test_target_uses_the_statistics_of_its_batch_not_the_running_ones(method: BYOL):
    x = images(8, 1)[0]
    before = method.target(x)
    method.target_backbone.get_submodule("norm").running_mean.fill_(100.0)
    assert torch.equal(method.target(x), before)


def test_samples_of_a_batch_average_to_its_loss(method: BYOL, arrays: list[np.ndarray]):
    whole = method.losses(embedded(*arrays), 0.5)["loss"].mean()
    parts = [method.losses(embedded(*(x[i : i + 1] for x in arrays)), 0.5)["loss"].item() for i in range(6)]
    assert whole.item() == pytest.approx(sum(parts) / 6, rel=1e-12)


def test_loss_stays_in_0_to_8(method: BYOL):
    q = torch.eye(3)
    assert method.losses(BYOLEmbeddings((q, q), (q, q)), 0.5)["loss"].tolist() == pytest.approx([0, 0, 0], abs=1e-6)
    assert method.losses(BYOLEmbeddings((q, q), (-q, -q)), 0.5)["loss"].tolist() == pytest.approx([8, 8, 8])


def test_no_counter_hides_in_the_module(method: BYOL):
    """Progress is all that tau depends on: steps taken before leave no trace but the weights and statistics."""
    names = set(method.state_dict())
    taus = [method.before_step(progress)["tau"] for progress in (0.2, 0.9, 0.2, 0.2)]
    method.embed(images(8, 2))
    assert taus[0] == taus[2] == taus[3] == pytest.approx(1 - 0.1 * (math.cos(0.2 * math.pi) + 1) / 2)
    assert set(method.state_dict()) == names
    counters = {name for name in names if not name.endswith(("weight", "bias", "running_mean", "running_var"))}
    assert all(name.endswith("num_batches_tracked") for name in counters)  # torch's own, of batch norms
    plain = {key for module in method.modules() for key, value in vars(module).items() if isinstance(value, int | float)}
    assert plain <= {"training", *vars(nn.Conv2d(1, 1, 1)), *vars(nn.Linear(1, 1)), *vars(nn.BatchNorm2d(1)), *vars(nn.ReLU())}


def test_bf16_networks_give_float32_embeddings(method: BYOL):
    with torch.autocast("cpu", torch.bfloat16):
        out = method.embed(images(8, 2))
    assert {x.dtype for pair in out for x in pair} == {torch.float32}
