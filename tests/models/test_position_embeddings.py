import pytest
import timm
import torch
from timm.layers import resample_abs_pos_embed

from rsa.models.backbones import build_backbone
from rsa.models.position_embeddings import resize_position_embeddings
from rsa.params.model import Model


@pytest.mark.parametrize("new", [(6, 6), (3, 5), (18, 16)])
@pytest.mark.parametrize("prefix", [0, 1])
def test_the_matrix_resizes_as_timm_does_with_the_same_gradient(new: tuple[int, int], prefix: int):
    torch.manual_seed(0)
    ours = torch.randn(1, prefix + 14 * 14, 8, requires_grad=True)
    theirs = ours.detach().clone().requires_grad_()
    weights = torch.randn(1, prefix + new[0] * new[1], 8)
    got = resize_position_embeddings(ours, list(new), [14, 14], num_prefix_tokens=prefix)
    want = resample_abs_pos_embed(theirs, list(new), [14, 14], num_prefix_tokens=prefix)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
    (got * weights).sum().backward()
    (want * weights).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-5)


def test_bf16_keeps_embeddings_in_float32_and_the_built_size_keeps_them_to_the_bit():
    x = torch.randn(1, 17, 4)
    assert resize_position_embeddings(x, [4, 4], [4, 4], num_prefix_tokens=1) is x
    plain = resize_position_embeddings(x, [2, 2], [4, 4], num_prefix_tokens=1)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(resize_position_embeddings(x, [2, 2], [4, 4], num_prefix_tokens=1), plain)


def test_a_vit_built_here_gives_what_timms_gives_for_smaller_images():
    arguments = {"img_size": 32, "patch_size": 4, "embed_dim": 12, "depth": 1, "num_heads": 2, "dynamic_img_size": True}
    ours = build_backbone(Model(backbone="vit_tiny_patch16_224", backbone_args=arguments, small_stem=False)).eval()
    theirs = timm.create_model("vit_tiny_patch16_224", num_classes=0, **arguments).eval()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 16, 16)
    before = timm.models.vision_transformer.resample_abs_pos_embed
    got = ours(x)
    try:
        timm.models.vision_transformer.resample_abs_pos_embed = resample_abs_pos_embed
        torch.testing.assert_close(got, theirs(x), rtol=1e-5, atol=1e-5)
    finally:
        timm.models.vision_transformer.resample_abs_pos_embed = before
