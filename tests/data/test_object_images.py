import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from rsa.data.detection_data import write_objects
from rsa.data.object_images import ObjectImages, batches, training_batches
from rsa.params.detection import COCO
from tests.data.shapes import CLASSES, SIDE, draw, draw_coco, draw_voc

TRAIN, TEST = 6, 2


@pytest.fixture
def coco(tmp_path: Path) -> tuple[COCO, Path]:
    p = draw_coco(tmp_path / "raw", TRAIN, TEST)
    (tmp_path / "objects").mkdir()
    write_objects(p, tmp_path / "objects")
    return p, tmp_path / "objects"


def opened(coco: tuple[COCO, Path], **changes: Any) -> ObjectImages:
    p, objects = coco
    values: dict[str, Any] = {"masks": True, "training": True, "flip_prob": 0.0, "seed": 0}
    return ObjectImages(objects / "train.json", Path(p.raw), **{**values, **changes})


def number_of(images: ObjectImages, place: int) -> int:
    return int(Path(images.coco.imgs[images.ids[place]]["file_name"]).stem)


def test_a_target_is_what_was_drawn(coco: tuple[COCO, Path]):
    images = opened(coco)
    assert images.classes == CLASSES
    for place in range(TRAIN):
        x, target = images[place, 0]
        pixels, shapes = draw(number_of(images, place))
        assert np.abs(255 * x.permute(1, 2, 0).numpy() - pixels).mean() < 25  # noise through JPEG
        want = [[s.left, s.top, s.left + s.side, s.top + s.side] for s in shapes]
        assert target["boxes"].tolist() == want
        assert target["labels"].tolist() == [CLASSES.index(s.name) + 1 for s in shapes]
        for mask, shape in zip(target["masks"], shapes, strict=True):
            inside = mask[shape.top : shape.top + shape.side, shape.left : shape.left + shape.side]
            assert mask.sum() == inside.sum()
            share = {"square": 1.0, "disc": np.pi / 4}[shape.name]
            assert inside.float().mean() == pytest.approx(share, abs=0.04)


def test_a_mirrored_image_has_mirrored_objects(coco: tuple[COCO, Path]):
    images, mirrored = opened(coco), opened(coco, flip_prob=1.0)
    for place in range(TRAIN):
        x, target = images[place, 0]
        y, other = mirrored[place, 0]
        assert torch.equal(y, x.flip(2))
        assert torch.equal(other["masks"], target["masks"].flip(2))
        for (left, top, right, bottom), mask in zip(other["boxes"].int().tolist(), other["masks"], strict=True):
            rows, columns = torch.nonzero(mask, as_tuple=True)
            assert left <= columns.min() <= left + 1  # the box encloses its mask
            assert right - 2 <= columns.max() <= right - 1
            assert top <= rows.min() <= rows.max() < bottom


def test_who_is_mirrored_depends_on_seed_epoch_and_image_alone(coco: tuple[COCO, Path]):
    def flips(seed: int) -> list[list[bool]]:
        plain, images = opened(coco), opened(coco, flip_prob=0.5, seed=seed)
        return [[not torch.equal(images[i, epoch][0], plain[i, 0][0]) for i in range(TRAIN)] for epoch in range(8)]

    first = flips(0)
    assert first == flips(0)
    assert first != flips(1)
    assert len({tuple(epoch) for epoch in first}) > 4
    assert 0.25 < np.mean(first) < 0.75


def test_batches_pass_over_all_images_in_every_epoch(coco: tuple[COCO, Path]):
    images = opened(coco)
    places = list(training_batches(images, 3, 0, 4))
    for epoch in range(2):
        seen = [place for batch in places[2 * epoch : 2 * epoch + 2] for place in batch]
        assert sorted(seen) == [(number, epoch) for number in range(TRAIN)]
    assert places == list(training_batches(images, 3, 0, 4))
    (x, targets), *_ = batches(images, places, workers=0)
    assert [image.shape for image in x] == [(3, SIDE, SIDE)] * 3
    assert torch.equal(x[0], images[places[0][0]][0])
    assert torch.equal(targets[0]["boxes"], images[places[0][0]][1]["boxes"])
    with pytest.raises(ValueError, match=r"schedule\.batch_size must be at most the number of images with objects \(6\), got 7"):
        next(training_batches(images, 7, 0, 1))


def test_crowds_and_images_without_objects_are_not_trained_on_but_tested(coco: tuple[COCO, Path]):
    _, objects = coco
    document = json.loads((objects / "train.json").read_text())
    alone = [row["image_id"] for row in document["annotations"]]
    single = next(id for id in alone if alone.count(id) == 1)
    for row in document["annotations"]:
        row["iscrowd"] = int(row["image_id"] == single)
    (objects / "train.json").write_text(json.dumps(document))
    assert opened(coco).ids == [id for id in range(1, TRAIN + 1) if id != single]
    tested = opened(coco, training=False)
    assert tested.ids == list(range(1, TRAIN + 1))
    assert tested[single - 1, 0][1]["iscrowd"].tolist() == [1]


def test_difficult_objects_are_trained_on_and_not_counted(tmp_path: Path):
    p = draw_voc(tmp_path / "raw", 2, 6)
    write_objects(p, tmp_path)
    both = {
        training: ObjectImages(tmp_path / "test.json", tmp_path / "raw", masks=False, training=training)
        for training in (True, False)
    }
    uncounted = 0
    for place in range(6):
        trained, tested = both[True][place, 0][1], both[False][place, 0][1]
        assert torch.equal(trained["boxes"], tested["boxes"])
        assert tested["iscrowd"].tolist() == [0, 1][: len(tested["boxes"])]
        uncounted += int(tested["iscrowd"].sum())
    assert uncounted > 0


def test_another_image_under_the_same_name_is_refused(coco: tuple[COCO, Path]):
    images = opened(coco)
    path = images.raw / images.coco.imgs[images.ids[2]]["file_name"]
    Image.fromarray(np.zeros((SIDE, SIDE, 3), np.uint8)).save(path)
    with pytest.raises(ValueError, match=rf"{path.name} is not the image that was annotated: run the `detection_data` stage"):
        images[2, 0]
    path.unlink()
    with pytest.raises(ValueError, match=path.name):
        images[2, 0]


def test_masks_need_segmentations(coco: tuple[COCO, Path]):
    _, objects = coco
    document = json.loads((objects / "train.json").read_text())
    del document["annotations"][0]["segmentation"]
    (objects / "train.json").write_text(json.dumps(document))
    opened(coco, masks=False)
    with pytest.raises(ValueError, match=r"train\.json: every object must have a segmentation for mask_rcnn, got 1 without"):
        opened(coco)
