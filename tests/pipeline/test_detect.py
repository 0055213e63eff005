"""Stages `detection_data`, `detect` and `robustness`, run as their commands run them, in this process: torch is imported once."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline import stage
from pipeline.detect import detect
from pipeline.detection_data import detection_data
from rsa.methods import control_encoder, pixels
from rsa.models.backbones import build_backbone
from rsa.models.encoder import save_encoder
from rsa.params.document import Params
from rsa.params.model import Model
from tests.conftest import WriteParams, described
from tests.data.shapes import draw_coco
from tests.evaluation.detectors import MODEL, tiny_backbone, tiny_detection
from tests.pipeline.conftest import RunStage

CORRUPTIONS = ["gaussian_noise", "glass_blur", "contrast"]
OBJECTS = {"train": "data/detection/shapes/train.json", "test": "data/detection/shapes/test.json"}
ENCODER = "runs/byol/s0/encoder.safetensors"


@pytest.fixture
def shapes(run: RunStage, write_params: WriteParams) -> dict[str, Any]:
    """A project with a data set of shapes and an encoder; its `detection.shapes.training`."""
    Path(ENCODER).parent.mkdir(parents=True)
    data = draw_coco(Path("raw/shapes"), 8, 4).model_copy(update={"raw": "raw/shapes"})
    section = tiny_detection(data, iterations=3).model_dump(mode="json")
    write_params({"model": MODEL, "detection": {"shapes": {"data": data.model_dump(), "training": section}}})
    save_encoder(tiny_backbone(), Path(ENCODER), described(MODEL))
    return section


def test_from_annotations_to_scores(run: RunStage, shapes: dict[str, Any]):
    run("detection_data", name="shapes", raw="raw/shapes", out="data/detection/shapes")
    flags = {"name": "shapes", "seed": 0, "encoder": ENCODER, **OBJECTS}
    for out in ("a", "b"):
        run("detect", **flags, out=f"scores/{out}.json")
    assert Path("scores/a.json").read_bytes() == Path("scores/b.json").read_bytes()
    scores = json.loads(Path("scores/a.json").read_text())
    assert list(scores) == [f"{kind} {metric}" for kind in ("detection", "segmentation") for metric in ("AP", "AP50", "AP75")]
    for task, score in scores.items():
        assert (score["protocol"], score["metric"]) == ("shapes", task.rpartition(" ")[2])
        assert 0 <= score["value"] <= 100
        assert score["settings"] == shapes


def test_wrong_inputs_end_in_a_message(run: RunStage, shapes: dict[str, Any], write_params: WriteParams):
    first = sorted(Path("raw/shapes/train2017").iterdir())[0]
    first.rename("elsewhere.jpg")
    with pytest.raises(SystemExit, match=rf"detection_data: error: .*1 faults, among them\n{first} does not exist"):
        run("detection_data", name="shapes", raw="raw/shapes", out="data/detection/shapes")
    assert not Path("data/detection/shapes").exists()
    Path("elsewhere.jpg").rename(first)
    run("detection_data", name="shapes", raw="raw/shapes", out="data/detection/shapes")
    flags = {"name": "shapes", "seed": 0, **OBJECTS, "out": "scores/a.json"}
    with pytest.raises(SystemExit, match=r"detect: error: .*none\.safetensors does not exist"):
        run("detect", **flags, encoder="none.safetensors")
    narrower = {**MODEL, "backbone_args": {**MODEL["backbone_args"], "channels": [16, 32, 64, 32]}}
    save_encoder(build_backbone(Model.model_validate(narrower)), Path(ENCODER), described(narrower))
    with pytest.raises(SystemExit, match=r"detect: error: .* must fit the model of params.yaml, got \d+ tensors that differ"):
        run("detect", **flags, encoder=ENCODER)
    save_encoder(tiny_backbone(), Path(ENCODER), described(MODEL))
    shutil.copy(sorted(Path("raw/shapes/train2017").iterdir())[1], first)
    with pytest.raises(SystemExit, match=rf"detect: error: {first} is not the image that was annotated"):
        run("detect", **flags, encoder=ENCODER)


def test_a_change_of_the_schedule_leaves_the_objects_alone_and_images_that_move_the_detector(
    run: RunStage, shapes: dict[str, Any]
):
    """Stage `detection_data` reads `detection.NAME.data` alone; of what it writes, what stage `detect` watches stays the same."""
    assert [dotted for dotted, _ in stage.sections_of(detection_data).values()] == ["detection.{name}.data"]
    assert "detection.{name}.data" not in [dotted for dotted, _ in stage.sections_of(detect).values()]
    run("detection_data", name="shapes", raw="raw/shapes", out="data/detection/shapes")
    before = [Path(file).read_bytes() for file in OBJECTS.values()]
    Path("raw/shapes").rename("moved")
    params = Path("params.yaml")
    params.write_text(params.read_text().replace("raw/shapes", "moved"))
    run("detection_data", name="shapes", raw="moved", out="data/detection/shapes")
    assert [Path(file).read_bytes() for file in OBJECTS.values()] == before
    run("detect", name="shapes", seed=0, encoder=ENCODER, **OBJECTS, out="scores/moved.json")


def test_pixels_have_no_detector(run: RunStage, shapes: dict[str, Any], tiny: Params):
    save_encoder(control_encoder(pixels.Settings(method="pixels"), tiny_backbone(), tiny.views), Path(ENCODER), described(MODEL))
    run("detection_data", name="shapes", raw="raw/shapes", out="data/detection/shapes")
    run("detect", name="shapes", seed=0, encoder=ENCODER, **OBJECTS, out="scores/pixels.json")
    assert json.loads(Path("scores/pixels.json").read_text()) == {}


def test_robustness_of_digits(run: RunStage, write_params: WriteParams, tiny: Params):
    section = {
        "constants": "cifar",
        "corruptions": CORRUPTIONS,
        "severities": [1, 5],
        "C": [0.01],
        "held_out": 0.2,
        "max_iter": 50,
    }
    write_params({"robustness": {"digits": section}})
    Path(ENCODER).parent.mkdir(parents=True)
    torch.manual_seed(0)
    save_encoder(build_backbone(tiny.model), Path(ENCODER), described(tiny.model))
    run("shard", dataset="digits", raw="requirements.lock", out="data/shards/digits")
    run("extract", encoder=ENCODER, shards="data/shards/digits", out="features/byol/s0/digits")
    inputs = {"encoder": ENCODER, "shards": "data/shards/digits", "features": "features/byol/s0/digits"}
    for out in ("a", "b"):
        run("robustness", dataset="digits", seed=0, **inputs, out=f"scores/{out}.json")
    assert Path("scores/a.json").read_bytes() == Path("scores/b.json").read_bytes()
    scores = json.loads(Path("scores/a.json").read_text())
    assert list(scores) == ["corrupted", "corrupted / clean"]
    score = scores["corrupted"]
    assert list(score["corruptions"]) == CORRUPTIONS
    values = [value for of in score["corruptions"].values() for value in of.values()]
    assert len(values) == 2 * len(CORRUPTIONS)
    assert score["value"] == pytest.approx(sum(values) / len(values))
    assert score["value"] < score["clean_top1"]
