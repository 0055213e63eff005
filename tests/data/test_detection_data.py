import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rsa.data.detection_data import write_objects
from rsa.params.detection import COCO, VOC
from tests.data.shapes import CLASSES, SIDE, draw, draw_coco, draw_voc

TRAIN, TEST = 4, 8
Edit = Callable[[Path], None]
XML = "VOCdevkit/VOC2007/Annotations/000001.xml"
JSON = "annotations/instances_train2017.json"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, VOC | COCO]]:
    folder = tmp_path_factory.mktemp("drawn")
    return {
        "voc": (folder / "voc", draw_voc(folder / "voc", TRAIN, TEST)),
        "coco": (folder / "coco", draw_coco(folder / "coco", TRAIN, TEST)),
    }


def written(p: VOC | COCO, folder: Path) -> dict[str, dict[str, Any]]:
    folder.mkdir(parents=True)
    write_objects(p, folder)
    return {split: json.loads((folder / f"{split}.json").read_text()) for split in ("train", "test")}


@pytest.mark.parametrize("format", ["voc", "coco"])
def test_objects_are_those_that_were_drawn(drawn: dict[str, tuple[Path, VOC | COCO]], tmp_path: Path, format: str):
    root, p = drawn[format]
    documents = written(p, tmp_path / "out")
    for split, numbers in (("train", range(TRAIN)), ("test", range(TRAIN, TRAIN + TEST))):
        document = documents[split]
        names = {each["id"]: each["name"] for each in document["categories"]}
        assert names == {1: "disc", 2: "square"}  # COCO's are listed the other way round, numbered 7 and 3
        assert len(document["images"]) == len(numbers)
        for image in document["images"]:
            assert (root / image["file_name"]).is_file()
            number = int(Path(image["file_name"]).stem)
            found = [
                (names[each["category_id"]], *each["bbox"]) for each in document["annotations"] if each["image_id"] == image["id"]
            ]
            assert found == [(shape.name, shape.left, shape.top, shape.side, shape.side) for shape in draw(number)[1]]
            assert number in numbers


def test_what_is_difficult_in_voc_and_a_crowd_in_coco_is_kept_apart(drawn: dict[str, tuple[Path, VOC | COCO]], tmp_path: Path):
    root, p = copied(drawn["coco"], tmp_path)
    edit_json(lambda document: document["annotations"][0].update(iscrowd=1))(root)
    crowds = [(each["iscrowd"], each["difficult"]) for each in written(p, tmp_path / "coco_out")["train"]["annotations"]]
    assert sorted(crowds)[-1] == (1, 0)
    assert crowds.count((0, 0)) == len(crowds) - 1
    document = written(drawn["voc"][1], tmp_path / "voc_out")["test"]
    second = sum(len(draw(number)[1]) > 1 for number in range(TRAIN, TRAIN + TEST))
    assert sum(each["difficult"] for each in document["annotations"]) == second > 0
    assert not any(each["iscrowd"] for each in document["annotations"])


def test_the_same_data_give_the_same_bytes(drawn: dict[str, tuple[Path, VOC | COCO]], tmp_path: Path):
    for name in ("a", "b"):
        written(drawn["coco"][1], tmp_path / name)
    assert (tmp_path / "a/train.json").read_bytes() == (tmp_path / "b/train.json").read_bytes()


def copied(original: tuple[Path, VOC | COCO], folder: Path) -> tuple[Path, VOC | COCO]:
    """A copy to spoil."""
    root, p = original
    shutil.copytree(root, folder / "raw")
    return folder / "raw", p.model_copy(update={"raw": str(folder / "raw")})


def edit_text(name: str, old: str, new: str) -> Edit:
    def edit(root: Path) -> None:
        text = (root / name).read_text()
        assert old in text
        (root / name).write_text(text.replace(old, new, 1))

    return edit


def edit_json(change: Callable[[Any], object]) -> Edit:
    def edit(root: Path) -> None:
        document = json.loads((root / JSON).read_text())
        change(document)
        (root / JSON).write_text(json.dumps(document))

    return edit


def removed(name: str) -> Edit:
    return lambda root: (root / name).unlink()


FAULTS: dict[str, tuple[str, Edit, str]] = {
    "voc without its folder": ("voc", lambda root: shutil.rmtree(root / "VOCdevkit"), r"raw must hold VOC's VOCdevkit/VOC2007/"),
    "voc without its list": ("voc", removed("VOCdevkit/VOC2007/ImageSets/Main/test.txt"), r"ImageSets/Main/test.txt"),
    "voc annotation missing": ("voc", removed(XML), r"000001\.xml does not exist"),
    "voc annotation cut off": ("voc", edit_text(XML, "</annotation>", ""), r"000001\.xml must be an annotation in the format"),
    "voc box without a side": ("voc", edit_text(XML, "xmax", "xmex"), r"000001\.xml must be an annotation in the format"),
    "voc side not a number": ("voc", edit_text(XML, "<xmin>", "<xmin>a"), r"000001\.xml must be an annotation.*'a"),
    "voc box outside": (
        "voc",
        edit_text(XML, "<xmin>", "<xmin>-"),
        r"000001\.xml: object 1 \(\w+\): box must lie inside the image of 64x64 px, got -",
    ),
    "voc class unknown": (
        "voc",
        lambda root: (root / XML).write_text((root / XML).read_text().replace("disc", "dics").replace("square", "dics")),
        r"000001\.xml: object 1 \(dics\): class must be in data.classes, got 'dics' \(did you mean disc\?\)",
    ),
    "voc size wrong": (
        "voc",
        edit_text(XML, f"<width>{SIDE}", "<width>65"),
        r"000001\.xml: .*000001\.jpg must be 65x64 px, got 64x64",
    ),
    "image missing": (
        "voc",
        removed("VOCdevkit/VOC2007/JPEGImages/000001.jpg"),
        r"1\.jpg does not exist \(annotated in .*xml",
    ),
    "image broken": (
        "coco",
        lambda root: (root / "train2017/000000000001.jpg").write_bytes(b"\xff\xd8\xff no image"),
        r"train2017/000000000001\.jpg cannot be decoded",
    ),
    "coco annotations missing": ("coco", removed(JSON), r"instances_train2017\.json does not exist"),
    "coco annotations cut off": (
        "coco",
        lambda root: (root / JSON).write_text((root / JSON).read_text()[:-9]),
        r"instances_train2017\.json must be an annotation in the format",
    ),
    "coco without categories": (
        "coco",
        edit_json(lambda d: d.pop("categories")),
        r"\.json must have 'categories', got",
    ),
    "coco annotation of no image": (
        "coco",
        edit_json(lambda d: d["annotations"][0].update(image_id=5)),
        r"instances_train2017\.json: annotation 0 must be of an image of the file, got image 5",
    ),
    "coco category unknown": (
        "coco",
        edit_json(lambda d: d["annotations"][0].update(category_id=5)),
        r"instances_train2017\.json: annotation 0 \(category 5\): class must be in data\.classes",
    ),
    "coco box outside": (
        "coco",
        edit_json(lambda d: d["annotations"][0].update(bbox=[0, 0, 70, 5])),
        r"annotation 0 \(\w+\): box must lie inside the image of 64x64 px, got 0 0 70 5",
    ),
    "coco splits differ": (
        "coco",
        edit_json(lambda d: d["categories"].pop(0)),
        r"val2017\.json must have the categories",
    ),
    "nothing to count": (
        "coco",
        edit_json(lambda d: d["annotations"].clear()),
        r"train split must have objects to be counted",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_wrong_data_are_refused_by_the_name_of_the_file(drawn: dict[str, tuple[Path, VOC | COCO]], tmp_path: Path, fault: str):
    format, spoil, message = FAULTS[fault]
    root, p = copied(drawn[format], tmp_path)
    spoil(root)
    with pytest.raises(ValueError, match=message):
        written(p, tmp_path / "out")


def test_a_class_that_the_list_does_not_have_is_refused(drawn: dict[str, tuple[Path, VOC | COCO]], tmp_path: Path):
    p = drawn["coco"][1].model_copy(update={"classes": CLASSES[:1]})
    with pytest.raises(ValueError, match=r"\(square\): class must be in data\.classes, got 'square'"):
        written(p, tmp_path / "out")


def test_a_box_that_rounding_put_outside_is_cut_and_one_without_area_left_out(
    drawn: dict[str, tuple[Path, VOC | COCO]], tmp_path: Path
):
    root, p = copied(drawn["coco"], tmp_path)

    def change(document: Any) -> None:
        document["annotations"][0].update(bbox=[50.5, 10, 14, 5], area=70.0)
        document["annotations"][1].update(bbox=[5, 5, 10, 0])

    edit_json(change)(root)
    document = written(p, tmp_path / "out")["train"]
    whole = written(drawn["coco"][1], tmp_path / "whole")["train"]
    assert [50.5, 10.0, 13.5, 5.0] in [each["bbox"] for each in document["annotations"]]
    assert len(document["annotations"]) == len(whole["annotations"]) - 1
    assert (document["empty_boxes"], whole["empty_boxes"]) == (1, 0)
