"""What the methods do around their losses: gradients, target networks, centres, masks, names."""

import copy

import numpy as np
import pytest
import timm
import torch
from torch import nn

from rsa.data.masks import Masks, draw_masks
from rsa.data.samples import Samples
from rsa.methods import check_accumulation, method_class
from rsa.methods.dino import DINO
from rsa.methods.ibot import IBOT, masked
from rsa.methods.method import Method
from rsa.models.heads import PrototypeHead
from rsa.params.document import Params
from rsa.params.optimizer import AdamW
from rsa.training.optim import build_optimizer
from tests.methods.networks import Backbone, images
from tests.methods.sections import DEEP, SECTIONS, section


def samples(count: int = 8, views: int = 2) -> Samples:
    return Samples(np.arange(count), torch.arange(count) % 3, np.zeros((views, count, 5), int), 0, 0)


def vit() -> nn.Module:
    arguments = {"img_size": 16, "patch_size": 4, "embed_dim": 12, "depth": 1, "num_heads": 2, "dynamic_img_size": True}
    return timm.create_model("vit_tiny_patch16_224", num_classes=0, **arguments)


def build(name: str, **changes: object) -> Method:
    torch.manual_seed(0)
    return method_class(name)(vit() if name == "ibot" else Backbone(), section(name, **changes)).train()


def views_of(name: str, count: int = 8) -> list[torch.Tensor]:
    if name == "ibot":
        generator = torch.Generator().manual_seed(0)
        return [torch.randn(count, 3, size, size, generator=generator) for size in (16, 16, 8, 8)]
    return images(count, {"rsa": 4, "supervised": 1}.get(name, 2))


ADAMW = AdamW(
    name="adamw", base_lr=1e-3, end_lr=1e-5, betas=(0.9, 0.999), weight_decay=0.04, end_weight_decay=0.4,
    decay_all=False, clip_each=None, clip_norm=None,
)  # fmt: skip
TARGETS = ("target_", "teacher_")


@pytest.mark.parametrize("name", SECTIONS)
def test_every_parameter_but_targets_gets_gradient_and_samples_average_to_the_loss(name: str):
    method = build(name)
    method.before_step(0.5)
    losses = method.losses(method.embed(views_of(name), samples()), 0.5)
    assert all(term.shape == (8,) for term in losses.values())
    losses["loss"].mean().backward()
    for key, parameter in method.named_parameters():
        unshifted = name == "simclr" and key == "projector.4.bias"
        frozen = key.startswith(TARGETS) or key.endswith("original0") or unshifted  # the prototypes' lengths
        assert (parameter.grad is None) == frozen, key


@pytest.mark.parametrize("name", SECTIONS)
def test_embedding_again_without_gradient_leaves_every_parameter_as_it_was(name: str):
    method = build(name)
    before = copy.deepcopy(dict(method.named_parameters()))
    with torch.no_grad():
        method.losses(method.embed(views_of(name), samples()), 0.5)
    assert all(torch.equal(parameter, before[key]) for key, parameter in method.named_parameters())


@pytest.mark.parametrize("name", ["moco_v3", "dino", "ibot"])
def test_the_target_is_the_hand_computed_moving_average(name: str):
    """ema_start is 0.9: at half of training tau is 0.95. MoCo's moves before the step, DINO's after it."""
    method = build(name)
    online = [p for key, p in method.named_parameters() if key.split(".")[0] in ("backbone", "projector", "head")]
    targets = [p for key, p in method.named_parameters() if key.startswith(TARGETS)]
    assert len(online) == len(targets)
    with torch.no_grad():
        for p in online:
            p.fill_(4.0)
        for p in targets:
            p.fill_(2.0)
    assert method.before_step(0.5)["tau"] == pytest.approx(0.95)
    if name != "moco_v3":
        assert all(torch.equal(p, torch.full_like(p, 2.0)) for p in targets)
        method.after_backward(method.embed(views_of(name), samples()))
        method.after_step(0.5)
    for p in targets:
        torch.testing.assert_close(p, torch.full_like(p, 2.0 * 0.95 + 4.0 * 0.05))


def test_dinos_centre_is_the_moving_average_of_the_teachers_logits():
    method = build("dino")
    first, second = method.embed(images(8, 2)), method.embed(images(8, 2, seed=1))
    method.after_backward(first)  # two parts of one batch
    method.after_backward(second)
    method.after_step(0.5)
    logits = torch.cat([*first.teachers, *second.teachers])
    torch.testing.assert_close(method.center, 0.1 * logits.mean(0))  # center_momentum is 0.9
    method.losses(first, 0.5)
    torch.testing.assert_close(method.center, 0.1 * logits.mean(0))  # a loss moves nothing


def test_dinos_prototypes_are_frozen_at_first():
    method = build("dino", freeze_last_layer=0.25)
    for progress, rests in ((0.2, True), (0.25, True), (0.3, False)):
        method.zero_grad()
        method.before_step(progress)
        method.losses(method.embed(images(8, 2)), progress)["loss"].mean().backward()
        assert (method.head.last.parametrizations.weight.original1.grad is None) == rests


def test_dinos_teacher_sees_global_views_only():
    out = build("ibot").embed(views_of("ibot"), samples())
    assert [g is not None for g in out.teachers] == [True, True, False, False]
    assert [patches is not None for patches in out.patches] == [True, True, False, False]


def test_prototypes_have_unit_length_and_logits_are_cosines():
    head = PrototypeHead(6, 8, 4, 5, unit_length=True)
    torch.testing.assert_close(head.last.weight.norm(dim=1), torch.ones(5))
    assert float(head(torch.randn(100, 6)).detach().abs().max()) <= 1 + 1e-6


@pytest.mark.parametrize("size", [16, 8])
def test_masked_patches_enter_as_the_token(size: int):
    backbone = vit()
    token, mask = torch.full((12,), 7.0), torch.zeros(2, size // 4, size // 4, dtype=torch.bool)
    mask[0, 0, 1] = True
    seen = {}
    x = torch.randn(2, 3, size, size)
    plain = backbone.patch_embed(x)
    backbone.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.update(tokens=inputs[0]))
    backbone.forward_features(x)
    before = seen["tokens"]
    with masked(backbone, token, mask):
        backbone.forward_features(x)
    change = seen["tokens"] - before
    assert bool((change[0, 1 + 1] != 0).all())  # behind the class token, the second patch
    torch.testing.assert_close(change[0, 2], token - plain.reshape(2, -1, 12)[0, 1])
    change[0, 2] = 0
    assert not change.any()
    backbone.forward_features(x)
    assert torch.equal(seen["tokens"], before)


def test_masks_follow_their_probability_and_ratio_and_their_counter():
    many = Samples(np.arange(3000), torch.zeros(3000), np.zeros((1, 3000, 5), int), 3, 1)
    p = Masks(prob=0.5, ratio=(0.1, 0.5))
    masks = draw_masks(p, many, 0, (14, 14))
    shares = masks.mean((1, 2))
    assert 0.46 < (shares > 0).mean() < 0.54
    drawn = shares[shares > 0]
    assert 0.24 < drawn.mean() < 0.34  # of uniform in [0.1, 0.5], blocks overlap and end
    assert drawn.max() <= 0.62
    some = Samples(np.arange(100, 200), torch.zeros(100), np.zeros((1, 100, 5), int), 3, 1)
    np.testing.assert_array_equal(draw_masks(p, some, 0, (14, 14)), masks[100:200])
    assert (draw_masks(p, some, 1, (14, 14)) != masks[100:200]).any()
    assert not draw_masks(Masks(prob=0.0, ratio=(0.1, 0.5)), some, 0, (14, 14)).any()


def test_simsiams_predictor_is_all_whose_rate_is_constant():
    method = build("simsiam")
    assert {id(p) for p in method.constant_lr()} == {id(p) for p in method.predictor.parameters()}
    assert list(build("simsiam", fixed_predictor_lr=False).constant_lr()) == []


def test_targets_drop_nothing():
    torch.manual_seed(0)
    backbone = timm.create_model(
        "vit_tiny_patch16_224", num_classes=0, img_size=16, patch_size=4, embed_dim=12, depth=2, num_heads=2, drop_path_rate=0.9
    )
    method = DINO(backbone, section("dino")).train()
    x = torch.randn(4, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(method.teacher_backbone(x), method.teacher_backbone(x))
        assert not torch.equal(method.backbone(x), method.backbone(x))


@pytest.mark.parametrize("name", ["simclr", "barlow_twins", "moco_v3"])
def test_a_loss_that_compares_samples_refuses_parts_of_a_batch(name: str, tiny: Params):
    p = tiny.pretrain.model_copy(update={"accumulate": 2})
    with pytest.raises(ValueError, match=r"pretrain.accumulate must be 1 for \w+, whose loss compares all samples"):
        check_accumulation(build(name), p)
    check_accumulation(build("byol"), p)


class Normless(nn.Module):
    """A backbone without batch norm."""

    num_features = 5

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.conv(x)).mean((2, 3))


def test_gradients_of_parts_add_up_to_the_large_batchs():
    """DINO's head has no batch norm: to rounding. A batch norm sees the statistics of its part."""
    torch.manual_seed(0)
    method = DINO(Normless(), section("dino")).double().train()
    method.before_step(0.5)
    views = [view.double() for view in images(8, 2)]
    method.losses(method.embed(views), 0.5)["loss"].mean().backward()
    whole = [p.grad.clone() for p in method.parameters() if p.grad is not None]
    method.zero_grad()
    for part in (slice(0, 4), slice(4, 8)):
        (method.losses(method.embed([view[part] for view in views]), 0.5)["loss"].mean() / 2).backward()
    for gradient, want in zip([p.grad for p in method.parameters() if p.grad is not None], whole, strict=True):
        torch.testing.assert_close(gradient, want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("byol", "0.weight 0.bias 1.weight 1.bias 3.weight"),
        ("simclr", "0.weight 1.weight 1.bias 3.weight 4.weight"),
        ("simsiam", "0.weight 1.weight 1.bias 3.weight"),
        ("barlow_twins", "0.weight 1.weight 1.bias 3.weight"),
        ("moco_v3", "0.weight 1.weight 1.bias 3.weight"),
    ],
)
def test_projectors_have_the_authors_trained_parameters(name: str, keys: str):
    projector = build(name).projector
    assert " ".join(key for key, parameter in projector.named_parameters() if parameter.requires_grad) == keys
    out = projector(torch.randn(64, 5))
    normed = name in ("simclr", "simsiam", "moco_v3")
    assert torch.allclose(out.mean(0), torch.zeros(8), atol=1e-5) == normed
    assert torch.allclose(out.std(0, correction=0), torch.ones(8), atol=1e-2) == normed


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("byol", "0.weight 0.bias 1.weight 1.bias 3.weight"),
        ("rsa", "0.weight 0.bias 1.weight 1.bias 3.weight"),
        ("simsiam", "0.weight 1.weight 1.bias 3.weight 3.bias"),
        ("moco_v3", "0.weight 1.weight 1.bias 3.weight"),
    ],
)
def test_predictors_have_the_authors_biases(name: str, keys: str):
    """Last layer: a bias in SimSiam's alone. First layer, before a norm: one in RSA's code alone."""
    assert " ".join(key for key, _ in build(name).predictor.named_parameters()) == keys


def test_ibots_mask_token_is_decayed_as_a_matrix():
    """In the authors' code it is a parameter (1, D), and all but vectors and biases are decayed."""
    method = build("ibot")
    decayed = {
        id(p)
        for group in build_optimizer(method.parameters(), (), ADAMW).param_groups
        if group["weight_decay"]
        for p in group["params"]
    }
    assert {key for key, p in method.named_parameters() if "mask_token" in key and id(p) in decayed} == {"mask_token"}
    assert not any(id(p) in decayed for p in method.parameters() if p.ndim == 1)


def test_moco_v3s_predictor_ends_in_a_norm_only_on_request():
    kinds = {
        norm: [type(module).__name__ for module in build("moco_v3", predictor={**DEEP, "out_norm": norm}).predictor]
        for norm in (False, True)
    }
    assert kinds[False] == ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert kinds[True] == [*kinds[False], "BatchNorm1d"]


@pytest.mark.parametrize("joint", [True, False])
def test_simclrs_views_share_a_batch(joint: bool):
    method, views = build("simclr", joint_views=joint), images(8, 2)
    with torch.no_grad():
        want = method.project(torch.cat(views)).chunk(2) if joint else tuple(map(method.project, views))
        got = method.embed(views).projections
    for ours, theirs in zip(got, want, strict=True):
        assert torch.equal(ours, theirs)


def block_mask(random: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """iBOT's block-wise mask written again: a share of 0.1 to 0.5 for half of the images, block by block, 10 tries for each."""
    mask = np.zeros((rows, columns), bool)
    wanted = rows * columns * random.uniform(0.1, 0.5) if random.random() < 0.5 else 0
    while mask.sum() < wanted:
        for _ in range(10):
            area = random.uniform(*sorted([(min(rows, columns) // 3) ** 2, wanted - mask.sum()]))
            aspect = np.exp(random.uniform(np.log(0.3), -np.log(0.3)))
            h, w = round(np.sqrt(area * aspect)), round(np.sqrt(area / aspect))
            if h >= rows or w >= columns:
                continue
            grown = mask.copy()
            y, x = random.integers(0, rows - h + 1), random.integers(0, columns - w + 1)
            grown[y : y + h, x : x + w] = True
            if 0 < grown.sum() - mask.sum() <= wanted - mask.sum():
                mask = grown
                break
        else:
            return mask
    return mask


def test_masks_are_distributed_as_ibots_and_never_exceed_their_share():
    count = 2000
    drawn = draw_masks(Masks(prob=0.5, ratio=(0.1, 0.5)), some_samples(count), 0, (14, 14))
    random = np.random.default_rng(0)
    want = np.stack([block_mask(random, 14, 14) for _ in range(count)])
    shares, others = np.sort(drawn.mean((1, 2))), np.sort(want.mean((1, 2)))
    assert shares.max() <= 0.5
    assert np.abs(shares - others).mean() < 0.015
    assert (shares == 0).mean() == pytest.approx(0.5, abs=0.04)
    assert np.abs(drawn.mean(0) - want.mean(0)).mean() < 0.012  # where patches are masked
    edges = [np.count_nonzero(np.diff(masks.astype(int), axis=2)) / masks.sum() for masks in (drawn, want)]
    assert edges[0] == pytest.approx(edges[1], rel=0.05)  # blocks are as large


def some_samples(count: int) -> Samples:
    return Samples(np.arange(count), torch.zeros(count), np.zeros((1, count, 5), int), 3, 1)


def test_a_label_out_of_range_and_a_backbone_that_is_no_vit_are_refused():
    wrong = Samples(np.arange(6), torch.arange(6), np.zeros((1, 6, 5), int), 0, 0)
    with pytest.raises(ValueError, match=r"labels must be 0 to 2 \(methods.\*.classes\), got 0 to 5"):
        build("supervised").embed(images(6, 1), wrong)
    with pytest.raises(ValueError, match=r"ibot must have a ViT of timm's as model.backbone: Backbone has no patch_embed"):
        IBOT(Backbone(), section("ibot"))
    with pytest.raises(ValueError, match="freeze_patch_embed must be false for a backbone without a patch embedding"):
        build("moco_v3", freeze_patch_embed=True)
