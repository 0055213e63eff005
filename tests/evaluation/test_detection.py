import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torchvision.ops import roi_align

from rsa.data.detection_data import write_objects
from rsa.data.object_images import ObjectImages
from rsa.evaluation.detection import average_precision, detection_scores, deterministic, learning_rate, train_detector
from rsa.evaluation.score import Scores
from rsa.models.detectors import build_detector
from rsa.params.detection import COCO, VOC
from rsa.training.checkpoint import Checkpoints
from rsa.training.device import setup
from tests.conftest import IMAGENET
from tests.data.shapes import CLASSES, draw_coco, draw_voc
from tests.evaluation.detectors import tiny_backbone, tiny_detection
from tests.evaluation.killed import again_and_again, at_once, equal, last_states

CPU = torch.device("cpu")


def prepared(draw: Any, folder: Path, train: int, test: int) -> VOC | COCO:
    """The data, and objects/ beside it."""
    p: VOC | COCO = draw(folder / "raw", train, test)
    (folder / "objects").mkdir()
    write_objects(p, folder / "objects")
    return p


def scores(folder: Path, p: VOC | COCO, network: nn.Module, seed: int = 0, **changes: Any) -> Scores:
    setup("cpu", 1, seed)
    settings, data = tiny_detection(p, **changes), folder / "objects"
    return at_once(lambda checkpoints: detection_scores("shapes", settings, network, IMAGENET, data, 1, seed, CPU, checkpoints))


def test_training_on_a_frozen_backbone_finds_shapes_and_leaves_it_as_it_was(tmp_path: Path):
    p = prepared(draw_coco, tmp_path, 24, 12)
    backbone = tiny_backbone()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    settings = tiny_detection(p, iterations=60)
    setup("cpu", 1, 0)
    untrained = build_detector(tiny_backbone(), 2, settings, IMAGENET)
    test = ObjectImages(tmp_path / "objects/test.json", tmp_path / "raw", masks=True, training=False)
    floor = average_precision(untrained, test, settings, 1, CPU)
    found = scores(tmp_path, p, backbone, iterations=60)
    assert list(found) == [f"{kind} {metric}" for kind in ("detection", "segmentation") for metric in ("AP", "AP50", "AP75")]
    for kind, task in (("bbox", "detection AP50"), ("segm", "segmentation AP50")):
        assert floor[kind]["AP50"] < 5
        assert found[task]["value"] > floor[kind]["AP50"] + 15
    assert found["detection AP"]["per_class"].keys() == set(CLASSES)
    for score in found.values():
        assert (score["protocol"], score["repeats"]) == ("shapes", "exactly")
        assert score["settings"] == settings.model_dump(mode="json")
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_the_same_seed_trains_the_same_detector_and_encoder_and_seed_matter(tmp_path: Path):
    p = prepared(draw_voc, tmp_path, 8, 4)

    def trained(seed: int, encoder: int) -> list[Tensor]:
        """The detector's new layers."""
        setup("cpu", 1, seed)
        backbone, settings = tiny_backbone(encoder), tiny_detection(p, iterations=3)
        file, raw = tmp_path / "objects/train.json", tmp_path / "raw"
        images = ObjectImages(file, raw, masks=False, training=True, flip_prob=0.5, seed=seed)
        setup("cpu", 1, seed)
        detector = build_detector(backbone, 2, settings, IMAGENET)
        at_once(lambda checkpoints: train_detector(detector, backbone, images, settings, 1, CPU, checkpoints))
        return [parameter.detach() for parameter in detector.parameters() if parameter.requires_grad]

    def same(a: list[Tensor], b: list[Tensor]) -> bool:
        return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))

    first = trained(0, 0)
    assert same(trained(0, 0), first)
    assert not same(trained(1, 0), first)
    assert not same(trained(0, 1), first)


def test_killed_again_and_again_a_detector_ends_in_the_same_bits(tmp_path: Path):
    """Its regions and its images' sizes are drawn from torch's generator; images are read by another process."""
    p = prepared(draw_voc, tmp_path, 8, 2)
    settings = tiny_detection(p, iterations=12, short_side={"train": [48, 64], "test": 64}, backbone="trained")

    def train(checkpoints: Checkpoints) -> Scores:
        setup("cpu", 1, 0)
        return detection_scores("shapes", settings, tiny_backbone(), IMAGENET, tmp_path / "objects", 1, 0, CPU, checkpoints)

    straight = train(Checkpoints(tmp_path / "straight", 1000, 60))
    killed, kills = again_and_again(train, tmp_path / "killed")
    assert killed == straight
    assert kills == 2
    assert equal(last_states(tmp_path / "killed"), last_states(tmp_path / "straight"))


def test_on_a_gpu_regions_are_cut_by_the_kernel_that_needs_no_terabytes(monkeypatch: pytest.MonkeyPatch):
    """On fake CUDA tensors. torchvision takes its own path, which materialises all sampling points, if torch is deterministic."""
    module = sys.modules["torchvision.ops.roi_align"]
    own = []

    def materialise(images: Tensor, regions: Tensor, *_: object) -> Tensor:
        own.append(regions)
        return images.new_empty(0)

    monkeypatch.setattr(module, "is_compile_supported", lambda kind: True)  # as where torch has a GPU
    monkeypatch.setattr(module, "_roi_align", materialise)

    def cut() -> Tensor:
        with FakeTensorMode():
            return roi_align(torch.randn(2, 256, 200, 336, device="cuda"), torch.rand(512, 5, device="cuda"), (7, 7))

    setup("cpu", 1, 0)
    assert deterministic(CPU)
    cut()
    assert len(own) == 1
    try:
        assert not deterministic(torch.device("cuda"))
        assert cut().shape == (512, 256, 7, 7)
        assert len(own) == 1
    finally:
        setup("cpu", 1, 0)


@pytest.mark.slow
@pytest.mark.parametrize("features", ["c4", "fpn"])
@pytest.mark.parametrize("mode", ["frozen_norms", "trained"])
def test_fine_tuning_on_voc_finds_shapes(tmp_path: Path, mode: str, features: str):
    p = prepared(draw_voc, tmp_path, 24, 12)
    sizes = [16, 24] if features == "c4" else [12, 16, 20, 24, 28]
    found = scores(
        tmp_path, p, tiny_backbone(), iterations=120, backbone=mode, features=features, anchors={"sizes": sizes, "ratios": [1.0]}
    )
    assert found["detection AP50"]["value"] > 15


class Oracle(nn.Module):
    """Finds what was annotated, its boxes moved by a share of their width, some of it not at all."""

    def __init__(self, images: ObjectImages, moved: float = 0.0, only: int | None = None) -> None:
        super().__init__()
        self.transform = nn.Module()
        self.answers = iter([images[place, 0][1] for place in range(len(images))])
        self.moved, self.only = moved, only

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        return [self.answer(next(self.answers)) for _ in images]

    def answer(self, target: dict[str, Tensor]) -> dict[str, Tensor]:
        kept = torch.ones(len(target["labels"]), dtype=torch.bool) if self.only is None else target["labels"] == self.only
        boxes = target["boxes"].clone()
        boxes[:, ::2] += self.moved * (boxes[:, 2:3] - boxes[:, :1])
        found = {"boxes": boxes[kept], "labels": target["labels"][kept], "scores": torch.ones(int(kept.sum()))}
        return found | ({"masks": target["masks"][kept][:, None].float()} if "masks" in target else {})


def test_average_precision_of_known_answers(tmp_path: Path):
    p = prepared(draw_coco, tmp_path, 2, 10)
    images = ObjectImages(tmp_path / "objects/test.json", tmp_path / "raw", masks=True, training=False)
    settings = tiny_detection(p)

    def precision(**changes: Any) -> dict[str, dict[str, Any]]:
        return average_precision(Oracle(images, **changes), images, settings, 1, CPU)

    perfect = precision()
    for kind in ("bbox", "segm"):
        assert [perfect[kind][metric] for metric in ("AP", "AP50", "AP75")] == pytest.approx([100, 100, 100], abs=1e-4)
    moved = precision(moved=0.2)["bbox"]  # IoU 0.8 / 1.2: above the thresholds 0.50, 0.55, 0.60, 0.65 of ten
    assert [moved[metric] for metric in ("AP", "AP50", "AP75")] == pytest.approx([40, 100, 0], abs=1e-4)
    discs = precision(only=1)["bbox"]
    assert discs["per_class"] == pytest.approx({"disc": 100, "square": 0}, abs=1e-4)
    assert discs["AP"] == pytest.approx(50, abs=1e-4)


def test_difficult_objects_count_neither_for_nor_against(tmp_path: Path):
    p = prepared(draw_voc, tmp_path, 2, 10)
    images = ObjectImages(tmp_path / "objects/test.json", tmp_path / "raw", masks=False, training=False)

    class Easy(Oracle):
        def answer(self, target: dict[str, Tensor]) -> dict[str, Tensor]:
            easy = target["iscrowd"] == 0
            return super().answer({name: value[easy] for name, value in target.items()})

    assert sum(int(images[place, 0][1]["iscrowd"].sum()) for place in range(10)) > 0
    for oracle in (Oracle(images), Easy(images)):
        found = average_precision(oracle, images, tiny_detection(p), 1, CPU)["bbox"]
        assert found["AP"] == pytest.approx(100, abs=1e-4)


def test_a_class_without_objects_has_no_precision(tmp_path: Path):
    p = prepared(draw_coco, tmp_path, 2, 6)
    file = tmp_path / "objects/test.json"
    document = json.loads(file.read_text())
    document["annotations"] = [row for row in document["annotations"] if row["category_id"] == 1]
    file.write_text(json.dumps(document))
    images = ObjectImages(file, tmp_path / "raw", masks=True, training=False)
    found = average_precision(Oracle(images), images, tiny_detection(p), 1, CPU)["bbox"]
    assert found["AP"] == pytest.approx(100, abs=1e-4)
    assert found["per_class"].get("square") is None


def test_learning_rate_warms_up_and_falls_to_a_tenth_at_each_step(tmp_path: Path):
    p = draw_coco(tmp_path, 1, 1)
    schedule = tiny_detection(p).schedule.model_copy(
        update={"iterations": 90, "lr": 0.02, "warmup_iterations": 10, "warmup_factor": 0.1, "steps": [60, 80]}
    )
    want = {0: 0.002, 5: 0.011, 10: 0.02, 59: 0.02, 60: 0.002, 79: 0.002, 80: 0.0002, 89: 0.0002}
    for iteration, lr in want.items():
        assert learning_rate(schedule, iteration) == pytest.approx(lr)
    assert learning_rate(schedule.model_copy(update={"warmup_iterations": 0}), 0) == 0.02


def test_a_loss_that_is_not_finite_names_the_iteration(tmp_path: Path):
    p = prepared(draw_coco, tmp_path, 4, 2)
    schedule = {**tiny_detection(p, 4).schedule.model_dump(), "lr": 1e12, "warmup_iterations": 0}
    with pytest.raises(FloatingPointError, match=r"loss must be finite, got .* at iteration [234]: lower schedule.lr"):
        scores(tmp_path, p, tiny_backbone(), schedule=schedule)
