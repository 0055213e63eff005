"""Hard View Selection takes the argmax over all admissible combinations; scoring moves nothing; the base method has no choice."""

import copy
import itertools

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor

from rsa.data.samples import Samples
from rsa.methods import build_method, method_class
from rsa.methods.hard_views import HardViews, iou
from rsa.params.document import Params
from rsa.params.hard_views import HardViews as HardViewParams
from rsa.params.hard_views import Scoring
from rsa.params.views import LocalViews, Views
from tests.methods.networks import Backbone, images
from tests.methods.sections import SECTIONS, section

COUNT = 6
EXACT = {"joint_views": False, "precision": "same", "predicted": None, "reuse": False}
PAIRWISE = [name for name in SECTIONS if name not in ("dino", "ibot", "supervised")]


def hard(candidates: int, local: int | None = None, max_combinations: int = 1000, **scoring: object) -> HardViewParams:
    described = Scoring.model_validate({**EXACT, **scoring})
    return HardViewParams(candidates=candidates, local_candidates=local, max_combinations=max_combinations, scoring=described)


def samples(views: int, seed: int = 0) -> Samples:
    random = np.random.default_rng(seed)
    boxes = np.stack([random.integers(0, 9, (views, COUNT)) for _ in range(4)] + [np.zeros((views, COUNT), int)], axis=2)
    boxes[..., 2:4] += 4
    return Samples(np.arange(COUNT), torch.arange(COUNT) % 3, boxes, 0, 0)


def build(name: str, p: HardViewParams, views: Views) -> HardViews:
    torch.manual_seed(0)
    backbone = Backbone()
    if name == "ibot":
        small = {"img_size": 16, "patch_size": 4, "embed_dim": 12, "depth": 1, "num_heads": 2, "dynamic_img_size": True}
        backbone = timm.create_model("vit_tiny_patch16_224", num_classes=0, **small)
    separate = {"joint_views": False} if name == "simclr" else {}  # as candidates are scored here
    method, _ = build_method(section(name, hard_views=p.model_dump(), **separate), backbone, views)
    method.train()
    method.before_step(0.5)
    return method


def distance(q: Tensor, z: Tensor) -> Tensor:
    """BYOL's, of one view."""
    return 2 - 2 * F.cosine_similarity(q, z)


def candidates_of(name: str, count: int, local: int = 0) -> list[Tensor]:
    if name == "ibot":
        generator = torch.Generator().manual_seed(3)
        return [torch.randn(COUNT, 3, size, size, generator=generator) for size in [16] * count + [8] * local]
    return images(COUNT, count * (2 if name == "rsa" else 1), seed=3)


@pytest.mark.parametrize("count", [2, 3, 4, 5, 6])
@pytest.mark.parametrize("name", PAIRWISE)
def test_the_chosen_pair_is_the_brute_force_argmax(name: str, count: int, tiny: Params):
    """All pairs one by one through a copy of the method; SimSiam's losses are negative."""
    method = build(name, hard(count), tiny.views)
    views = candidates_of(name, count)
    base = copy.deepcopy(method.method)
    best, hardest = torch.full((COUNT,), -torch.inf), [(-1, -1)] * COUNT
    for i, j in itertools.combinations(range(count), 2):
        pair = [views[i], views[j], *([views[count + i], views[count + j]] if name == "rsa" else [])]
        with torch.no_grad():
            losses = base.losses(base.embed(pair, samples(count)), 0.5)["loss"]
        for k in range(COUNT):
            if losses[k] > best[k] + 1e-7:
                best[k], hardest[k] = losses[k], (i, j)
    found = method.select(views, samples(count))
    assert [tuple(row) for row in found.combinations[found.chosen].tolist()] == hardest
    torch.testing.assert_close(found.losses.max(0).values, best, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", PAIRWISE)
def test_the_method_is_trained_on_the_chosen_views(name: str, tiny: Params):
    method = build(name, hard(4), tiny.views)
    views = candidates_of(name, 4)
    base = copy.deepcopy(method.method)
    chosen = method.select(views, samples(4))
    pairs = chosen.combinations[chosen.chosen].tolist()
    picked = [
        torch.stack([views[offset + pairs[k][slot]][k] for k in range(COUNT)])
        for offset in ([0, 4] if name == "rsa" else [0])
        for slot in (0, 1)
    ]
    want = base.losses(base.embed(picked, samples(4)), 0.5)["loss"]
    got = method.losses(method.embed(views, samples(4)), 0.5)["loss"]
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in SECTIONS if name != "supervised"])  # whose combinations are single views
def test_with_no_choice_it_is_the_method_to_the_bit(name: str, tiny: Params):
    local = LocalViews(count=2, size=8, crop_scale=(0.05, 0.4), blur_prob=0.5, solarize_prob=0.0)
    views_section = tiny.views.model_copy(update={"local": local})
    method = build(name, hard(2), views_section)
    base = copy.deepcopy(method.method)
    views = candidates_of(name, 2, 2)
    got, want = method.losses(method.embed(views, samples(4)), 0.5), base.losses(base.embed(views, samples(4)), 0.5)
    assert got.keys() == want.keys()
    assert all(torch.equal(got[key], want[key]) for key in want)
    got["loss"].mean().backward()
    want["loss"].mean().backward()
    for (key, p), q in zip(base.named_parameters(), method.method.parameters(), strict=True):
        assert (p.grad is None and q.grad is None) or torch.equal(p.grad, q.grad), key
    assert all(torch.equal(tensor, base.state_dict()[key]) for key, tensor in method.method.state_dict().items())


@pytest.mark.parametrize("form", [{}, {"precision": "bf16"}, {"joint_views": True}], ids=str)
@pytest.mark.parametrize("name", SECTIONS)
def test_scoring_moves_nothing(name: str, form: dict, tiny: Params):
    local = LocalViews(count=2, size=8, crop_scale=(0.05, 0.4), blur_prob=0.5, solarize_prob=0.0)
    own = None if name == "ibot" else 3
    method = build(name, hard(3, own, **form), tiny.views.model_copy(update={"local": local}))
    views = candidates_of(name, 3, own or 2)
    before, random = copy.deepcopy(method.state_dict()), torch.get_rng_state()
    found = method.select(views, samples(6))
    assert all(torch.equal(tensor, before[key]) for key, tensor in method.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert not found.losses.requires_grad
    assert all(module.training for module in method.modules())
    norms = [module for module in method.modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)]
    assert all(norm.track_running_stats for norm in norms)


def test_training_after_bf16_scoring_still_has_gradients(tiny: Params):
    """Autocast's cache must not hand casts without gradient on to the training forward."""
    method = build("byol", hard(3, precision="bf16"), tiny.views)
    with torch.autocast("cpu", torch.bfloat16):
        embedded = method.embed(candidates_of("byol", 3), samples(3))
    method.losses(embedded, 0.5)["loss"].mean().backward()
    assert all(p.grad is not None for key, p in method.named_parameters() if "target_" not in key)


def test_the_first_of_equals_is_chosen(tiny: Params):
    method = build("byol", hard(4), tiny.views)
    views = [candidates_of("byol", 4)[0]] * 4
    assert method.select(views, samples(4)).chosen.tolist() == [0] * COUNT


def test_single_views_of_supervised_training(tiny: Params):
    method = build("supervised", hard(4), tiny.views)
    views = candidates_of("supervised", 4)
    base = copy.deepcopy(method.method)
    with torch.no_grad():
        losses = torch.stack([base.losses(base.embed([view], samples(4)), 0.5)["loss"] for view in views])
    assert torch.equal(method.select(views, samples(4)).chosen, losses.argmax(0))


@pytest.mark.parametrize("name", ["dino", "ibot"])
def test_combinations_of_multi_crop_are_scored_as_by_brute_force(name: str, tiny: Params):
    """DINO: pairs of 3 global views, one of each colour recipe, each with 2 of 3 local ones. iBOT: all pairs with all local ones.

    Each loss is computed on its own embedding.
    """
    local = LocalViews(count=2, size=8, crop_scale=(0.05, 0.4), blur_prob=0.5, solarize_prob=0.0)
    method = build("ibot", hard(3), tiny.views.model_copy(update={"local": local}))
    count = 2
    if name == "dino":
        vit, count = method.method.backbone, 3
        method = build("dino", hard(3, 3), tiny.views.model_copy(update={"local": local}))
        method.method = method_class("dino")(vit, section("dino")).train()
    views = candidates_of("ibot", 3, count)
    found = method.select(views, samples(6))
    pairs = [(0, 1), (2, 1)] if name == "dino" else [(0, 1), (0, 2), (1, 2)]
    want_sets = [pair + local for pair in pairs for local in itertools.combinations(range(3, 3 + count), 2)]
    assert [tuple(row) for row in found.combinations.tolist()] == want_sets
    with torch.no_grad():
        embedded = method.method.embed(views, samples(6))
        for row, chosen in zip(found.losses, want_sets, strict=True):
            alone = type(embedded)(*(tuple(items[i] for i in chosen) for items in embedded))
            torch.testing.assert_close(row, method.method.losses(alone, 0.5)["loss"], rtol=1e-4, atol=1e-5)


def test_a_limited_number_of_combinations_is_drawn_for_each_step_and_holds_the_plain_one(tiny: Params):
    local = LocalViews(count=4, size=8, crop_scale=(0.05, 0.4), blur_prob=0.5, solarize_prob=0.0)
    method = build("dino", hard(4, 8, max_combinations=16), tiny.views.model_copy(update={"local": local}))
    assert len(method.all_combinations) == 4 * 70  # pairs of one even and one odd view
    drawn = []
    for progress in (0.1, 0.1, 0.2):
        method.progress = progress
        drawn.append(method._drawn(seed=0))
    assert drawn[0] == drawn[1] != drawn[2]
    for combinations in drawn:
        assert len(combinations) == len(set(combinations)) == 16
        assert combinations[0] == method.all_combinations[0] == (0, 1, 4, 5, 6, 7)
        assert set(combinations) <= set(method.all_combinations)
    assert method._drawn(seed=1) != drawn[2]


def test_the_selection_is_described(tiny: Params):
    method = build("byol", hard(4), tiny.views)
    views, about = candidates_of("byol", 4), samples(4)
    losses = method.losses(method.embed(views, about), 0.5)
    described = method.describe(views, about)
    chosen = method.selection
    pairs = {f"chosen {i + 1}-{j + 1}" for i, j in itertools.combinations(range(4), 2)}
    assert described.keys() == pairs | {"iou", "iou_all", "color", "color_all"}
    assert sum(described[name] for name in pairs).tolist() == [1.0] * COUNT
    assert torch.equal(described["chosen 1-2"] == 1, chosen.chosen == 0)
    assert torch.equal(losses["score"], chosen.losses.max(0).values)
    torch.testing.assert_close(losses["score_all"], chosen.losses.mean(0))
    assert torch.equal(losses["plain_rank"] == 1, chosen.losses[0] == chosen.losses.max(0).values)
    for k in range(COUNT):
        i, j = chosen.combinations[chosen.chosen[k]].tolist()
        mask = np.zeros((2, 40, 40), bool)
        for m, (top, left, height, width, _) in zip(mask, (about.boxes[i, k], about.boxes[j, k]), strict=True):
            m[top : top + height, left : left + width] = True
        assert described["iou"][k].item() == pytest.approx((mask[0] & mask[1]).sum() / (mask[0] | mask[1]).sum())
        assert described["color"][k].item() == pytest.approx(float((views[i][k].mean((1, 2)) - views[j][k].mean((1, 2))).norm()))


def test_iou_by_hand():
    a = torch.tensor([[0, 0, 4, 4], [0, 0, 4, 4], [0, 0, 2, 2]])
    b = torch.tensor([[0, 0, 4, 4], [2, 2, 4, 4], [2, 2, 2, 2]])
    assert iou(a, b).tolist() == pytest.approx([1.0, 4 / 28, 0.0])


@pytest.mark.parametrize("count", [0, 2, 3])
def test_candidates_that_are_not_predicted_get_predictions_from_the_target(count: int, tiny: Params):
    method = build("byol", hard(3, predicted=count), tiny.views)
    views, base = candidates_of("byol", 3), copy.deepcopy(method.method)
    with torch.no_grad():
        z = [base.target(view) for view in views]
        q = [base.predict(views[i]) if i < count else base.predictor(z[i]) for i in range(3)]
        want = torch.stack([distance(q[i], z[j]) + distance(q[j], z[i]) for i, j in itertools.combinations(range(3), 2)])
    torch.testing.assert_close(method.select(views, samples(3)).losses, want)


def test_fewer_predictions_are_for_methods_that_can_do_with_them(tiny: Params):
    for name, kind in (("simclr", "SimCLR"), ("rsa", "RSA")):
        with pytest.raises(ValueError, match=rf"hard_views.scoring.predicted must be null for {kind}, got 2"):
            build(name, hard(3, predicted=2), tiny.views).select(candidates_of(name, 3), samples(3))


@pytest.mark.parametrize("name", ["byol", "rsa", "moco_v3"])
def test_reuse_trains_on_the_same_pairs_with_the_targets_of_scoring(name: str, tiny: Params):
    exact, reusing = (build(name, hard(4, reuse=reuse), tiny.views) for reuse in (False, True))
    views = candidates_of(name, 4)
    one, other = exact.embed(views, samples(4)), reusing.embed(views, samples(4))
    assert torch.equal(exact.selection.chosen, reusing.selection.chosen)
    for field in one._fields:
        for a, b in zip(getattr(one, field), getattr(other, field), strict=True):
            if field in exact.method.reusable and not (name == "rsa" and field == "aggressive_targets"):
                pairs = exact.selection.combinations[exact.selection.chosen]
                slot = next(i for i, x in enumerate(getattr(other, field)) if x is b)
                scored = getattr(reusing.selection.embedded, field)
                assert torch.equal(b, torch.stack([scored[pairs[k, slot]][k] for k in range(COUNT)]))
            else:
                assert torch.equal(a, b)
    losses = reusing.method.losses(other, 0.5)["loss"]
    losses.mean().backward()
    assert not any(p.grad is not None for key, p in reusing.named_parameters() if "target_" in key)


def test_reuse_is_refused_where_there_is_nothing_to_reuse(tiny: Params):
    with pytest.raises(ValueError, match=r"hard_views.scoring.reuse must be false for SimSiam, got true"):
        build("simsiam", hard(3, reuse=True), tiny.views).embed(candidates_of("simsiam", 3), samples(3))


def test_too_few_or_too_many_local_candidates_are_refused(tiny: Params):
    local = LocalViews(count=4, size=8, crop_scale=(0.05, 0.4), blur_prob=0.5, solarize_prob=0.0)
    views = tiny.views.model_copy(update={"local": local})
    with pytest.raises(ValueError, match=r"local_candidates must be at least views.local.count \(4\), got 3"):
        build("dino", hard(4, 3), views)
    with pytest.raises(
        ValueError, match=r"must have at most 100000 combinations, got 4 pairs of global views x 91390 choices of 4 of 40"
    ):
        build("dino", hard(4, 40), views)


@pytest.mark.parametrize("name", ["byol", "rsa"])
def test_choices_to_look_at_are_those_that_are_trained_on(name: str, tiny: Params):
    """Their rows in the list of views hold the very views that `embed` picks; looking moves nothing."""
    method, views = build(name, hard(4), tiny.views), candidates_of(name, 4)
    before = copy.deepcopy(method.state_dict())
    found = method.choices(views, samples(4))
    assert found is not None
    for key, value in method.state_dict().items():
        assert torch.equal(value, before[key]), key
    selection = method.select(views, samples(4))
    picked = method.pick(views, selection.combinations[selection.chosen].T)
    for sample, rows in enumerate(found["rows"]):
        assert [torch.equal(view[sample], views[row][sample]) for view, row in zip(picked, rows, strict=True)] == [True] * len(
            picked
        )
    assert found["score"] == pytest.approx(selection.losses.max(0).values.tolist())
    assert found["score_all"] == pytest.approx(selection.losses.mean(0).tolist())


def test_candidates_are_stacked_once_whatever_is_picked(tiny: Params, monkeypatch: pytest.MonkeyPatch):
    """One copy of the global views and one of the local ones, not one for each place of a combination."""
    local = LocalViews(count=6, size=8, crop_scale=(0.05, 0.4), blur_prob=0.5, solarize_prob=0.0)
    method = build("dino", hard(4, 8), tiny.views.model_copy(update={"local": local}))
    views = [torch.randn(COUNT, 3, size, size) for size in [16] * 4 + [8] * 8]
    numbers = torch.tensor(method.all_combinations[:: len(method.all_combinations) // COUNT][:COUNT]).T
    stacked: list[int] = []
    stack = torch.stack
    monkeypatch.setattr(torch, "stack", lambda tensors: stacked.append(len(tensors)) or stack(tensors))
    picked = method.pick(views, numbers)
    assert stacked == [4, 8]
    for place, view in enumerate(picked):
        for sample in range(COUNT):
            assert torch.equal(view[sample], views[int(numbers[place, sample])][sample])


def test_without_a_choice_there_is_nothing_to_look_at(tiny: Params):
    assert build("byol", hard(2), tiny.views).choices(candidates_of("byol", 2), samples(2)) is None


@pytest.mark.parametrize("name", ["byol", "rsa", "simsiam", "simclr", "barlow_twins", "moco_v3"])
def test_joint_scoring_forwards_all_candidates_as_one_batch(name: str, tiny: Params):
    """A network sees all candidates once, as one batch, when they are scored; training forwards the chosen views as before."""
    method, views = build(name, hard(4, joint_views=True), tiny.views), candidates_of(name, 4)
    sizes: list[int] = []
    method.backbone.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    method.embed(views, samples(4))
    assert sizes == [4 * COUNT, COUNT, COUNT]
    seen = torch.cat(views[4:] if name == "rsa" else views)
    if name == "byol":
        base = copy.deepcopy(method.method)
        with torch.no_grad():
            q, z = base.predict(seen).chunk(4), base.target(seen).chunk(4)
            want = torch.stack([distance(q[i], z[j]) + distance(q[j], z[i]) for i, j in itertools.combinations(range(4), 2)])
        torch.testing.assert_close(method.select(views, samples(4)).losses, want)


def test_candidates_of_multi_crop_are_coloured_as_published(tiny: Params):
    """DINO's global candidates alternate between both colour recipes; of iBOT's only the first has the first recipe."""
    local = LocalViews(count=2, size=8, crop_scale=(0.05, 0.4), blur_prob=0.3, solarize_prob=0.0)
    blur = tiny.views.blur.model_copy(update={"prob": (1.0, 0.1)})
    views = tiny.views.model_copy(update={"local": local, "blur": blur})
    colors = [[view.color.blur_prob for view in build(name, hard(4), views).candidate_views.views] for name in ("dino", "ibot")]
    assert colors == [[1.0, 0.1, 1.0, 0.1, 0.3, 0.3], [1.0, 0.1, 0.1, 0.1, 0.3, 0.3]]
    assert [view.crop for view in build("ibot", hard(4), views).candidate_views.views] == list(range(6))
    with pytest.raises(ValueError, match=r"hard_views.local_candidates must be null for ibot, got 3"):
        build("ibot", hard(4, 3), views)
