from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torchvision.models.detection import maskrcnn_resnet50_fpn

from rsa.models.backbones import build_backbone
from rsa.models.detectors import build_detector, norms, train_mode
from rsa.models.encoder import load_weights, save_encoder
from rsa.params.detection import COCO, DetectorTraining
from rsa.params.model import Model
from tests.conftest import IMAGENET, described
from tests.evaluation.detectors import MODEL, tiny_backbone, tiny_detection

PLACES = {"images": "images", "annotations": "annotations.json"}
DATA = COCO.model_validate({"format": "coco", "raw": "raw", "train": PLACES, "test": PLACES, "classes": ["disc", "square"]})
KINDS = [(features, detector) for features in ("c4", "fpn") for detector in ("faster_rcnn", "mask_rcnn")]


def settings(**changes: Any) -> DetectorTraining:
    return tiny_detection(DATA, **changes)


def batch() -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    random = torch.Generator().manual_seed(0)
    images = [torch.rand(3, 64, 64, generator=random) for _ in range(2)]
    masks = torch.zeros(1, 64, 64, dtype=torch.uint8)
    masks[:, 10:30, 12:36] = 1
    target = {"boxes": torch.tensor([[12.0, 10.0, 36.0, 30.0]]), "labels": torch.tensor([2]), "masks": masks}
    return images, [target, target]


def step(detector: nn.Module, backbone: nn.Module, p: DetectorTraining) -> dict[str, Tensor]:
    """One step of training."""
    train_mode(detector, backbone, p)
    losses: dict[str, Tensor] = detector(*batch())
    torch.stack(list(losses.values())).sum().backward()
    torch.optim.SGD([each for each in detector.parameters() if each.requires_grad], lr=0.01).step()
    return losses


@pytest.mark.parametrize(("features", "detector"), KINDS)
@pytest.mark.parametrize("mode", ["frozen", "frozen_norms", "trained"])
def test_a_step_moves_what_is_to_be_trained_and_nothing_else(mode: str, features: str, detector: str):
    p, backbone = settings(backbone=mode, features=features, detector=detector), tiny_backbone()
    model = build_detector(backbone, 2, p, IMAGENET)
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    others = {name: value.clone() for name, value in model.named_parameters() if value.requires_grad}
    losses = step(model, backbone, p)
    expected = {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"}
    assert losses.keys() == expected | ({"loss_mask"} if detector == "mask_rcnn" else set())
    after = backbone.state_dict()
    of_norms = {name for name, _ in backbone.named_modules() if isinstance(_, nn.BatchNorm2d)}
    for name, value in before.items():
        is_norm = name.rpartition(".")[0] in of_norms
        fixed = mode == "frozen" or (mode == "frozen_norms" and is_norm)
        assert torch.equal(value, after[name]) == fixed, name
    moved = {name for name, value in model.named_parameters() if name in others and not torch.equal(value, others[name])}
    assert {"rpn.head.cls_logits.weight", "roi_heads.box_predictor.cls_score.weight"} <= moved


@pytest.mark.parametrize("features", ["c4", "fpn"])
def test_new_batch_norms_come_with_a_backbone_whose_features_are_not_normalised_anew(features: str):
    for mode, count in (("trained", {"c4": 1, "fpn": 8}), ("frozen", {"c4": 1, "fpn": 8}), ("frozen_norms", {"c4": 0, "fpn": 0})):
        backbone = tiny_backbone()
        before = len(list(norms(backbone)))
        model = build_detector(backbone, 2, settings(backbone=mode, features=features), IMAGENET)
        assert len(list(norms(model))) - before == count[features]


@pytest.mark.parametrize(("features", "stages"), [("c4", ["layer3"]), ("fpn", ["layer1", "layer2", "layer3", "layer4"])])
def test_the_detector_sees_the_features_of_the_encoder_in_the_file(features: str, stages: list[str], tmp_path: Path):
    trained = tiny_backbone(seed=1)
    save_encoder(trained, tmp_path / "encoder.safetensors", described(MODEL))
    backbone = load_weights(tiny_backbone(seed=2), tmp_path / "encoder.safetensors")
    model = build_detector(backbone, 2, settings(features=features), IMAGENET).eval()
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    seen: dict[str, Tensor] = {}
    body = model.backbone.body if features == "fpn" else model.backbone
    body.register_forward_hook(lambda _, __, outputs: seen.update(outputs))
    with torch.no_grad():
        model(list(images))
        x = (images - torch.tensor(IMAGENET.mean)[:, None, None]) / torch.tensor(IMAGENET.std)[:, None, None]
        want = timm.models.FeatureListNet(trained, out_indices=[int(stage[-1]) for stage in stages]).eval()(x)
    for level, feature in enumerate(want):
        torch.testing.assert_close(seen[str(level)], feature)
    if features == "c4":
        assert model.roi_heads.box_head[0].stage is backbone.layer4


def test_it_is_torchvisions_mask_rcnn_to_the_parameter():
    """The same shapes for timm's ResNet-50 as torchvision builds for its own."""
    with torch.device("meta"):
        p = settings(
            backbone="frozen_norms",
            channels=256,
            hidden=1024,
            anchors={"sizes": [32, 64, 128, 256, 512], "ratios": [0.5, 1.0, 2.0]},
        )
        ours = build_detector(timm.create_model("resnet50", num_classes=0), 90, p, IMAGENET)
        theirs = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=91)

    def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
        return {name: tuple(value.shape) for name, value in model.named_parameters()}

    assert shapes(ours) == shapes(theirs)
    assert ours.transform.image_mean == theirs.transform.image_mean == list(IMAGENET.mean)
    assert ours.transform.image_std == list(IMAGENET.std)


def test_c4_has_the_published_widths():
    with torch.device("meta"):
        p = settings(features="c4", anchors={"sizes": [32, 64, 128, 256, 512], "ratios": [0.5, 1.0, 2.0]}, channels=256)
        model = build_detector(timm.create_model("resnet50", num_classes=0), 20, p, IMAGENET)
    assert model.rpn.head.cls_logits.weight.shape == (15, 1024, 1, 1)
    assert model.roi_heads.box_predictor.cls_score.weight.shape == (21, 2048)
    assert model.roi_heads.mask_predictor.conv5_mask.weight.shape == (2048, 256, 2, 2)
    assert model.roi_heads.mask_head is model.roi_heads.box_head[0]


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "convnext_atto"])
def test_a_backbone_without_a_resnets_stages_is_refused(name: str):
    backbone = build_backbone(Model.model_validate({**MODEL, "backbone": name, "backbone_args": {}}))
    with pytest.raises(ValueError, match=r"model\.backbone must be one of timm's ResNets for detection, got a \w+"):
        build_detector(backbone, 2, settings(), IMAGENET)
