import copy
import math

import numpy as np
import pytest
import torch

from rsa.data.views import candidate_view_pairs
from rsa.methods.byol import BYOL
from rsa.methods.rsa import RSA, RSAEmbeddings, Settings
from rsa.params.document import Params
from tests.methods.networks import Backbone, images
from tests.methods.paper import d, numeric_gradient


def build(tiny: Params, **changes: object) -> RSA:
    torch.manual_seed(0)
    section = Settings.model_validate({**tiny.methods["rsa"].model_dump(), **changes})
    return RSA(Backbone(), section).train()


@pytest.fixture
def arrays() -> list[np.ndarray]:
    """q1, q2, w1, w2, a1, a2: (B, P) each, float64."""
    return list(np.random.default_rng(0).normal(size=(6, 6, 3)))


def embedded(arrays: list) -> RSAEmbeddings:
    q1, q2, w1, w2, a1, a2 = (torch.as_tensor(x) for x in arrays)
    return RSAEmbeddings((q1, q2), (w1, w2), (a1, a2))


@pytest.mark.parametrize(("progress", "beta"), [(0.0, 0.4), (1 / 3, 0.3), (0.5, 0.2), (2 / 3, 0.1), (1.0, 0.0)])
def test_loss_of_every_sample_equals_the_paper_written_again(
    tiny: Params, arrays: list[np.ndarray], progress: float, beta: float
):
    q1, q2, w1, w2, a1, a2 = arrays
    got = build(tiny).losses(embedded(arrays), progress)
    want = beta * (d(q1, a2) + d(q2, a1)) + (1 - beta) * (d(q1, w2) + d(q2, w1))
    np.testing.assert_allclose(got["loss"], want, rtol=1e-12)
    np.testing.assert_allclose(got["weak"], d(q1, w2) + d(q2, w1), rtol=1e-12)
    np.testing.assert_allclose(got["aggressive"], d(q1, a2) + d(q2, a1), rtol=1e-12)
    assert all(term.shape == (6,) for term in got.values())


def test_gradient_equals_finite_differences_with_the_targets_held_still(tiny: Params, arrays: list[np.ndarray]):
    q1, q2, w1, w2, _, _ = arrays
    first, second = torch.tensor(q1, requires_grad=True), torch.tensor(q2, requires_grad=True)
    online = [first, second, w1, w2, first.detach(), second.detach()]  # as embed() makes them
    build(tiny).losses(embedded(online), 1 / 3)["loss"].mean().backward()
    loss1 = numeric_gradient(lambda q: (0.3 * (d(q, q2) + d(q2, q1)) + 0.7 * (d(q, w2) + d(q2, w1))).mean(), q1)
    loss2 = numeric_gradient(lambda q: (0.3 * (d(q1, q2) + d(q, q1)) + 0.7 * (d(q1, w2) + d(q, w1))).mean(), q2)
    np.testing.assert_allclose(first.grad, loss1, atol=1e-8)
    np.testing.assert_allclose(second.grad, loss2, atol=1e-8)


@pytest.mark.parametrize("kind", ["online", "target"])
def test_loss_of_the_network_equals_the_paper_from_its_own_outputs(tiny: Params, kind: str):
    method = build(tiny, aggressive_target=kind)
    w1, w2, a1, a2 = images(8, 4)
    other = copy.deepcopy(method)

    def online(x):
        return other.predictor(other.projector(other.backbone(x))).detach().double().numpy()

    def target(x):
        return other.target_projector(other.target_backbone(x)).double().numpy()

    q1, q2, z1, z2 = online(a1), online(a2), target(w1), target(w2)
    t1, t2 = (q1, q2) if kind == "online" else (target(a1), target(a2))
    got = method.losses(method.embed([w1, w2, a1, a2]), 1 / 3)["loss"].detach()
    want = 0.3 * (d(q1, t2) + d(q2, t1)) + 0.7 * (d(q1, z2) + d(q2, z1))
    np.testing.assert_allclose(got, want, rtol=1e-4)


def test_beta_0_is_weak_only_and_beta_1_aggressive_only(tiny: Params, arrays: list[np.ndarray]):
    weak_only = build(tiny, beta={"schedule": "constant", "value": 0.0}).losses(embedded(arrays), 0.5)
    aggressive_only = build(tiny, beta={"schedule": "constant", "value": 1.0}).losses(embedded(arrays), 0.5)
    assert torch.equal(weak_only["loss"], weak_only["weak"])
    assert torch.equal(aggressive_only["loss"], aggressive_only["aggressive"])
    assert not torch.allclose(weak_only["weak"], weak_only["aggressive"])


def test_with_beta_1_and_the_target_network_rsa_is_byol_on_the_aggressive_views(tiny: Params):
    method = build(tiny, aggressive_target="target", beta={"schedule": "constant", "value": 1.0})
    byol = BYOL(Backbone(), tiny.methods["byol"]).train()
    byol.load_state_dict(method.state_dict())  # the same networks under the same names
    w1, w2, a1, a2 = images(8, 4)
    got = method.losses(method.embed([w1, w2, a1, a2]), 0.5)["loss"]
    want = byol.losses(byol.embed([a1, a2]), 0.5)["loss"]
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("kind", ["online", "target"])
def test_swapping_the_view_pairs_changes_nothing_in_the_loss(tiny: Params, kind: str):
    method = build(tiny, aggressive_target=kind)
    w1, w2, a1, a2 = images(8, 4)
    one = method.losses(copy.deepcopy(method).embed([w1, w2, a1, a2]), 0.5)["loss"]
    other = method.losses(copy.deepcopy(method).embed([w2, w1, a2, a1]), 0.5)["loss"]
    torch.testing.assert_close(one, other)


def test_weak_views_reach_only_the_target_network(tiny: Params):
    method = build(tiny)
    views = images(8, 4)
    weak = [view.requires_grad_() for view in views[:2]]
    aggressive = [view.requires_grad_() for view in views[2:]]
    method.losses(method.embed(views), 0.5)["loss"].mean().backward()
    assert [view.grad for view in weak] == [None, None]
    assert all(view.grad is not None for view in aggressive)


@pytest.mark.parametrize("kind", ["online", "target"])
def test_gradients_stop_at_every_target(tiny: Params, kind: str):
    method = build(tiny, aggressive_target=kind)
    out = method.embed(images(8, 4))
    assert all(q.requires_grad for q in out.predictions)
    assert not any(z.requires_grad for z in (*out.weak_targets, *out.aggressive_targets))
    method.losses(out, 0.5)["loss"].mean().backward()
    for name, parameter in method.named_parameters():
        assert (parameter.grad is None) == name.startswith("target_"), name


def test_aggressive_target_is_the_online_prediction_or_the_target_networks_projection(tiny: Params):
    views = images(8, 4)
    online = build(tiny, aggressive_target="online").embed(views)
    assert all(torch.equal(a, q) for a, q in zip(online.aggressive_targets, online.predictions, strict=True))
    method = build(tiny, aggressive_target="target")
    target = method.embed(views)
    for got, view in zip(target.aggressive_targets, views[2:], strict=True):
        torch.testing.assert_close(got, method.target(view))
    for got, view in zip(target.weak_targets, views[:2], strict=True):
        torch.testing.assert_close(got, method.target(view))


def test_every_view_is_forwarded_once(tiny: Params):
    for kind, online, target in (("online", 2, 2), ("target", 2, 4)):
        method = build(tiny, aggressive_target=kind)
        method.embed(images(8, 4))
        assert int(method.backbone.get_submodule("norm").num_batches_tracked) == online
        assert int(method.target_backbone.get_submodule("norm").num_batches_tracked) == target


def test_beta_follows_its_schedule_and_is_recorded(tiny: Params):
    method = build(tiny, beta={"schedule": "step", "start": 0.8, "factor": 0.5, "at": [0.5]})
    assert method.before_step(0.25)["beta"] == pytest.approx(0.8)
    assert method.before_step(0.5)["beta"] == pytest.approx(0.4)
    assert method.before_step(0.25)["beta"] == pytest.approx(0.8)  # no memory of the step before
    assert method.before_step(0.5)["tau"] == pytest.approx(0.95)


def test_rsa_moves_its_target_as_byol_does(tiny: Params):
    method = build(tiny)
    with torch.no_grad():
        method.target_backbone.get_submodule("conv").weight.fill_(2.0)
        method.backbone.get_submodule("conv").weight.fill_(4.0)
    method.before_step(0.2)
    tau = 1 - 0.1 * (math.cos(0.2 * math.pi) + 1) / 2
    weight = method.target_backbone.get_submodule("conv").weight
    torch.testing.assert_close(weight, torch.full_like(weight, 2 * tau + 4 * (1 - tau)))


def test_weak_views_come_first_in_the_recipe_as_embed_reads_them(tiny: Params):
    assert RSA.recipe is candidate_view_pairs
    views = RSA.recipe(tiny.views).views
    assert [view.color is None for view in views] == [True, True, False, False]
    assert [view.crop for view in views] == [0, 1, 0, 1]  # an aggressive view has its weak view's crop
