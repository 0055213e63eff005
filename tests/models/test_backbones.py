import pytest
import torch
from torch import nn

from rsa.models.backbones import build_backbone, representation
from rsa.params.document import Params
from rsa.params.model import Model


def changed(tiny: Params, **changes: object) -> Model:
    return tiny.model.model_copy(update=changes)


def test_representation_is_one_float32_vector_per_image(tiny: Params):
    backbone = build_backbone(tiny.model)
    h = representation(backbone, torch.randn(3, 3, 16, 16))
    assert h.shape == (3, backbone.num_features)
    assert h.dtype == torch.float32


def test_representation_is_float32_under_bf16(tiny: Params):
    with torch.autocast("cpu", torch.bfloat16):
        assert representation(build_backbone(tiny.model), torch.randn(2, 3, 16, 16)).dtype == torch.float32


def test_small_stem_is_a_3x3_convolution_of_stride_1_without_max_pool(tiny: Params):
    backbone = build_backbone(changed(tiny, backbone_args={"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 8]}))
    assert (backbone.conv1.kernel_size, backbone.conv1.stride, backbone.conv1.padding) == ((3, 3), (1, 1), (1, 1))
    assert isinstance(backbone.maxpool, nn.Identity)


def test_small_stem_starts_as_a_torch_convolution(tiny: Params):
    torch.manual_seed(0)
    backbone = build_backbone(tiny.model.model_copy(update={"backbone": "resnet18", "backbone_args": {}, "small_stem": True}))
    assert backbone.conv1.weight.std().item() == pytest.approx(1 / (3 * 27) ** 0.5, rel=0.03)  # 0.111


def test_small_stem_of_a_deep_stem_changes_its_first_convolution(tiny: Params):
    backbone = build_backbone(tiny.model)  # stem_type: deep
    assert (backbone.conv1[0].kernel_size, backbone.conv1[0].stride) == ((3, 3), (1, 1))
    assert isinstance(backbone.maxpool, nn.Identity)


def test_small_stem_keeps_the_resolution_that_the_large_one_quarters(tiny: Params):
    sizes = {}
    for small in (True, False):
        backbone = build_backbone(changed(tiny, small_stem=small))
        backbone.layer1.register_forward_hook(lambda _, inputs, out, small=small: sizes.update({small: inputs[0].shape[-1]}))
        backbone(torch.randn(2, 3, 32, 32))
    assert sizes == {True: 32, False: 8}


def test_small_stem_of_a_network_without_one_is_refused(tiny: Params):
    with pytest.raises(ValueError, match=r"model\.small_stem must be false for vit_tiny_patch16_224"):
        build_backbone(changed(tiny, backbone="vit_tiny_patch16_224", backbone_args={"depth": 1}))


def test_unknown_backbone_is_refused_with_the_nearest_names(tiny: Params):
    with pytest.raises(
        ValueError, match=r"model.backbone must be a name that timm knows, got 'resnet1' \(did you mean .*resnet1"
    ):
        build_backbone(changed(tiny, backbone="resnet1"))


@pytest.mark.parametrize(
    "arguments",
    [
        {"layer": [1, 1, 1, 1]},  # no such argument
        {"layers": "many"},  # ill-typed
        {"act_layer": "rleu"},  # timm itself fails half-way
        {"stem_width": -1, "stem_type": "deep"},
        {"num_classes": 10},  # a classifier has no place here
    ],
    ids=str,
)
def test_wrong_backbone_args_are_refused_by_their_key(tiny: Params, arguments: dict[str, object]):
    with pytest.raises(ValueError, match=r"model\.backbone_args must be arguments of timm's resnet18"):
        build_backbone(changed(tiny, backbone_args=arguments))


@pytest.mark.parametrize(("key", "value"), [("pretrained", True), ("checkpoint_path", "weights.pth")])
def test_weights_from_elsewhere_are_refused(tiny: Params, key: str, value: object):
    with pytest.raises(ValueError, match=rf"model\.backbone_args must not hold {key}: use pretrain\.start"):
        build_backbone(changed(tiny, backbone_args={key: value}))


def test_the_same_seed_gives_the_same_network(tiny: Params):
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        states.append(torch.cat([parameter.flatten() for parameter in build_backbone(tiny.model).parameters()]))
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])
