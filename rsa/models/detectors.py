"""torchvision's Faster R-CNN (Ren et al. 2015) and Mask R-CNN (He et al. 2017) on a timm ResNet.

c4: one feature map from the last but one stage; the last stage is the head of each region (Ren et al. 2015; Res5ROIHeads in
detectron2). This is the transfer protocol of MoCo (He et al. 2020, section 4.2) and of later work that compares with it.
fpn: a feature pyramid of the four stages (Lin et al. 2017) with torchvision's heads.

With `backbone: trained`, batch norms use the statistics of the whole batch and the new layers have a batch norm too (c4:
after the last stage; fpn: in the pyramid), like MoCo's synchronised batch norms.
Differences from MoCo: torchvision's proposals, sampling and losses instead of detectron2's; no precise batch norm, which
re-estimates the statistics before the test.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from torch import nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import MultiScaleRoIAlign

from rsa.params.detection import DetectorTraining
from rsa.params.views import ChannelStatistics

STAGES = 4
C4_PROPOSALS = {  # detectron2's values for one feature map; torchvision's defaults are per pyramid level
    "rpn_pre_nms_top_n_train": 12000,
    "rpn_pre_nms_top_n_test": 6000,
    "rpn_post_nms_top_n_train": 2000,
    "rpn_post_nms_top_n_test": 1000,
}


def build_detector(backbone: nn.Module, classes: int, p: DetectorTraining, normalize: ChannelStatistics) -> nn.Module:
    """Build the detector; it takes images in [0, 1] and normalises them as in pretraining."""
    stages = _stages(backbone)
    for parameter in _fixed(backbone, p):
        parameter.requires_grad_(False)
    parts = _c4(backbone, stages, classes, p) if p.features == "c4" else _fpn(backbone, stages, classes, p)
    build = MaskRCNN if p.detector == "mask_rcnn" else FasterRCNN
    pixels = {"image_mean": list(normalize.mean), "image_std": list(normalize.std)}
    detector: nn.Module = build(min_size=p.short_side.train, max_size=p.long_side, **pixels, **parts)
    return detector


def train_mode(detector: nn.Module, backbone: nn.Module, p: DetectorTraining) -> None:
    """Set training mode, except for the modules that `p.backbone` freezes."""
    detector.train()
    if p.backbone == "frozen":
        backbone.eval()
    if p.backbone == "frozen_norms":
        for norm in norms(backbone):
            norm.eval()


def norms(module: nn.Module) -> Iterator[nn.Module]:
    """Iterate over the batch norms of a module."""
    return (each for each in module.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm))


def _fixed(backbone: nn.Module, p: DetectorTraining) -> Iterator[nn.Parameter]:
    if p.backbone == "frozen":
        yield from backbone.parameters()
    if p.backbone == "frozen_norms":
        for norm in norms(backbone):
            yield from norm.parameters()


def _stages(backbone: nn.Module) -> list[dict[str, Any]]:
    """Return timm's description (module, num_chs) of the last stages."""
    stages: list[dict[str, Any]] = list(getattr(backbone, "feature_info", []))[-STAGES:]
    children = dict(backbone.named_children())
    names = [each["module"] for each in stages]
    if names != ["layer1", "layer2", "layer3", "layer4"] or not children.keys() >= set(names):
        raise ValueError(f"model.backbone must be one of timm's ResNets for detection, got a {type(backbone).__name__}")
    return stages


def _fpn(backbone: nn.Module, stages: list[dict[str, Any]], classes: int, p: DetectorTraining) -> dict[str, Any]:
    norm = nn.BatchNorm2d if p.backbone != "frozen_norms" else None
    levels = {stage["module"]: str(level) for level, stage in enumerate(stages)}
    pyramid = BackboneWithFPN(backbone, levels, [stage["num_chs"] for stage in stages], p.channels, norm_layer=norm)
    ratios = (tuple(p.anchors.ratios),) * len(p.anchors.sizes)
    names = list(levels.values())
    parts = {
        "backbone": pyramid,
        "rpn_anchor_generator": AnchorGenerator(tuple((size,) for size in p.anchors.sizes), ratios),
        "box_roi_pool": MultiScaleRoIAlign(names, output_size=7, sampling_ratio=2),
        "box_head": TwoMLPHead(p.channels * 7**2, p.hidden),
        "box_predictor": FastRCNNPredictor(p.hidden, classes + 1),
    }
    if p.detector == "faster_rcnn":
        return parts
    return {
        **parts,
        "mask_roi_pool": MultiScaleRoIAlign(names, output_size=14, sampling_ratio=2),
        "mask_head": MaskRCNNHeads(p.channels, (p.channels,) * 4, dilation=1),
        "mask_predictor": MaskRCNNPredictor(p.channels, p.channels, classes + 1),
    }


def _c4(backbone: nn.Module, stages: list[dict[str, Any]], classes: int, p: DetectorTraining) -> dict[str, Any]:
    body = IntermediateLayerGetter(backbone, {stages[-2]["module"]: "0"})
    body.out_channels = stages[-2]["num_chs"]
    width = stages[-1]["num_chs"]
    norm = nn.BatchNorm2d(width) if p.backbone != "frozen_norms" else nn.Identity()
    last = nn.Sequential(OrderedDict(stage=backbone.get_submodule(stages[-1]["module"]), norm=norm))
    pool = MultiScaleRoIAlign(["0"], output_size=14, sampling_ratio=-1)  # adaptive: about one sampling point per pixel
    anchors = AnchorGenerator((tuple(p.anchors.sizes),), (tuple(p.anchors.ratios),))
    parts = {
        **C4_PROPOSALS,
        "backbone": body,
        "rpn_anchor_generator": anchors,
        "rpn_head": RPNHead(body.out_channels, anchors.num_anchors_per_location()[0]),
        "box_roi_pool": pool,
        "box_head": nn.Sequential(last, nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        "box_predictor": FastRCNNPredictor(width, classes + 1),
    }
    if p.detector == "faster_rcnn":
        return parts
    return {
        **parts,
        "mask_roi_pool": pool,
        "mask_head": last,
        "mask_predictor": MaskRCNNPredictor(width, p.channels, classes + 1),
    }
