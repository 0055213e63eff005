import numpy as np
import pytest
import timm
import torch
from torch.utils.flop_counter import FlopCounterMode

from rsa.data.batch import Batch
from rsa.data.normalize import Normalize
from rsa.data.samples import Samples
from rsa.methods import build_method
from rsa.models.backbones import build_backbone, representation
from rsa.params.document import Params
from rsa.params.views import LocalViews
from rsa.training.cost import cost_per_image
from tests.conftest import IMAGENET
from tests.methods.sections import section

NORMALIZE = Normalize(IMAGENET, torch.device("cpu"))


def batch(views: int, size: int = 16, count: int = 4) -> Batch:
    ids = np.arange(count)
    samples = Samples(ids, torch.zeros(count, dtype=torch.long), np.ones((views, count, 5), np.int64), 0, 0)
    return Batch(0, samples, [torch.randint(0, 255, (count, size, size, 3), dtype=torch.uint8) for _ in range(views)])


@pytest.mark.parametrize(("name", "views", "passes"), [("byol", 2, 4), ("rsa", 4, 4)])
def test_every_forward_of_a_backbone_is_counted(tiny: Params, name: str, views: int, passes: int):
    """BYOL: two views through both networks; RSA: aggressive ones through the online, weak ones through the target network."""
    method, _ = build_method(tiny.methods[name], build_backbone(tiny.model), tiny.views)
    assert cost_per_image(method, batch(views), NORMALIZE).forward_passes == passes


@pytest.mark.parametrize(
    ("name", "passes"), [("simsiam", 2), ("simclr", 2), ("barlow_twins", 2), ("moco_v3", 4), ("supervised", 1)]
)
def test_every_method_on_a_resnet_is_counted(tiny: Params, name: str, passes: int):
    method, recipe = build_method(section(name), build_backbone(tiny.model), tiny.views)
    assert cost_per_image(method.train(), batch(len(recipe.views)), NORMALIZE).forward_passes == passes


def test_multi_crop_counts_local_views_too(tiny: Params):
    """DINO: two global and three local views through the student, the global ones through the teacher."""
    vit = timm.create_model("vit_tiny_patch16_224", img_size=16, patch_size=4, num_classes=0, depth=1, dynamic_img_size=True)
    local = LocalViews(count=3, size=8, crop_scale=(0.05, 0.4), blur_prob=0.5, solarize_prob=0.0)
    method, _ = build_method(section("dino"), vit, tiny.views.model_copy(update={"local": local}))
    several = batch(5)
    several.views[2:] = [view[:, :8, :8] for view in several.views[2:]]
    assert cost_per_image(method.train(), several, NORMALIZE).forward_passes == 2 + 3 + 2


def test_flops_of_a_step_are_those_of_its_forward_and_backward_passes(tiny: Params):
    """With gradient a forward costs three times one without, but for the first layer, whose input gets no gradient."""
    backbone = build_backbone(tiny.model)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        representation(backbone, torch.zeros(1, 3, 16, 16))
    one = counter.get_total_flops()
    method, _ = build_method(tiny.methods["byol"], build_backbone(tiny.model), tiny.views)
    total = cost_per_image(method, batch(2), NORMALIZE).flops_per_image
    assert 2 * one + 2 * 2.5 * one < total < (2 + 2 * 3) * one * 1.2  # heads on top


def test_hard_views_pay_for_their_candidates(tiny: Params):
    hard = tiny.methods["byol"].model_dump() | {
        "hard_views": {
            "candidates": 4,
            "local_candidates": None,
            "max_combinations": 6,
            "scoring": {"joint_views": True, "precision": "same", "predicted": None, "reuse": False},
        }
    }
    method, _ = build_method(type(tiny.methods["byol"]).model_validate(hard), build_backbone(tiny.model), tiny.views)
    assert cost_per_image(method, batch(4), NORMALIZE).forward_passes == 2 * 4 + 2 * 2
