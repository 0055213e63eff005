"""torchvision's own classes on small data in their formats on disk; nothing is downloaded."""

import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch
import torchvision.datasets as sets
from PIL import Image

from rsa.data.sources import Source, open_source
from rsa.data.sources.torchvision import SETS, Torchvision

RANDOM = np.random.default_rng(0)


def params(root: Path, name: str, **changes: Any) -> Torchvision:
    values = {"source": "torchvision", "raw": "requirements.lock", "name": name, "root": str(root), "download": False}
    return Torchvision.model_validate({**values, "test_fraction": None, "pretrain": None, **changes})


def opened(root: Path, name: str, **changes: Any) -> Source:
    return open_source(params(root, name, **changes), 0)


def write(path: Path, content: bytes | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def jpeg(path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(RANDOM.integers(0, 255, (8, 8, 3), np.uint8)).save(buffer, "JPEG")
    write(path, buffer.getvalue())


def decoded(source: Source, split: str) -> list[np.ndarray]:
    return [np.asarray(Image.open(io.BytesIO(source.read(sample)))) for sample in source.splits[split]]


def labels(source: Source, split: str) -> list[int]:
    return [sample.label for sample in source.splits[split]]


def keeps_bytes(source: Source, root: Path) -> bool:
    """Are all images read as they are on disk, from below `root`?"""
    return all(source.read(s) == (root / s.origin).read_bytes() for split in source.splits.values() for s in split)


@pytest.fixture
def cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """Three training images and two for testing, as pickled batches; (N, 32, 32, 3) of each split."""
    pixels = {
        "data_batch_1": RANDOM.integers(0, 255, (3, 3072), np.uint8),
        "test_batch": RANDOM.integers(0, 255, (2, 3072), np.uint8),
    }
    folder = tmp_path / "cifar-10-batches-py"
    for name, data in pixels.items():
        write(folder / name, pickle.dumps({"data": data, "labels": list(range(len(data)))}))
    write(folder / "batches.meta", pickle.dumps({"label_names": ["cat", "dog", "eel"]}))
    monkeypatch.setattr(sets.CIFAR10, "train_list", [["data_batch_1", None]])  # None: the real files' md5 isn't asked for
    monkeypatch.setattr(sets.CIFAR10, "test_list", [["test_batch", None]])
    monkeypatch.setattr(sets.CIFAR10, "meta", {"filename": "batches.meta", "key": "label_names", "md5": None})
    return {name: data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1) for name, data in pixels.items()}


SPLITS = {"train": {"train": True}, "test": {"train": False}}


def test_cifar10_becomes_lossless_png(tmp_path: Path, cifar10: dict[str, np.ndarray]):
    source = opened(tmp_path, "CIFAR10", **SPLITS)
    assert source.classes == ["cat", "dog", "eel"]
    assert labels(source, "train") == [0, 1, 2]
    assert {sample.extension for split in source.splits.values() for sample in split} == {"png"}
    np.testing.assert_array_equal(decoded(source, "train"), cifar10["data_batch_1"])
    np.testing.assert_array_equal(decoded(source, "test"), cifar10["test_batch"])


def test_a_list_of_arguments_is_concatenated(tmp_path: Path, cifar10: dict[str, np.ndarray]):
    source = opened(tmp_path, "CIFAR10", **SPLITS | {"pretrain": [SPLITS["test"], SPLITS["train"]]})
    assert labels(source, "pretrain") == [0, 1, 0, 1, 2]
    np.testing.assert_array_equal(decoded(source, "pretrain"), [*cifar10["test_batch"], *cifar10["data_batch_1"]])


@pytest.mark.usefixtures("cifar10")
def test_arrays_are_opened_again_where_the_reader_is_unpickled(tmp_path: Path):
    source = opened(tmp_path, "CIFAR10", **SPLITS)
    pickled = pickle.dumps(source.read)
    assert len(pickled) < 2000  # no pixels
    read = pickle.loads(pickled)
    assert [read(s) for s in source.splits["test"]] == [source.read(s) for s in source.splits["test"]]


@pytest.fixture
def stl10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Two labelled training images, two for testing, three unlabelled; the last as (3, 96, 96, 3)."""
    folder = tmp_path / "stl10_binary"
    monkeypatch.setattr(sets.STL10, "train_list", [["train_X.bin", None], ["train_y.bin", None], ["unlabeled_X.bin", None]])
    monkeypatch.setattr(sets.STL10, "test_list", [["test_X.bin", None], ["test_y.bin", None]])
    pixels = RANDOM.integers(0, 255, (3, 3, 96, 96), np.uint8)  # channel, column, row
    for split in ("train", "test"):
        write(folder / f"{split}_X.bin", pixels[:2].tobytes())
        write(folder / f"{split}_y.bin", bytes([2, 1]))
    write(folder / "unlabeled_X.bin", pixels.tobytes())
    write(folder / "class_names.txt", "airplane\nbird\n")
    return pixels.transpose(0, 3, 2, 1)


def test_stl10_pretrains_on_unlabelled_images_too(tmp_path: Path, stl10: np.ndarray):
    source = opened(tmp_path, "STL10", train={"split": "train"}, test={"split": "test"}, pretrain={"split": "train+unlabeled"})
    assert list(source.splits) == ["train", "test", "pretrain"]
    assert labels(source, "train") == labels(source, "test") == [1, 0]
    assert labels(source, "pretrain") == [1, 0, -1, -1, -1]
    np.testing.assert_array_equal(decoded(source, "pretrain"), [*stl10[:2], *stl10])


@pytest.mark.usefixtures("stl10")
def test_unlabelled_images_are_for_pretraining_only(tmp_path: Path):
    with pytest.raises(ValueError, match=r"STL10 train\[2\] must be in \[0, 1\], got -1; unlabelled .* for the split 'pretrain'"):
        opened(tmp_path, "STL10", train={"split": "train+unlabeled"}, test={"split": "test"})


def test_svhn_has_digits_for_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pixels = RANDOM.integers(0, 255, (32, 32, 3, 4), np.uint8)
    for split in ("train", "test"):
        scipy.io.savemat(tmp_path / f"{split}.mat", {"X": pixels, "y": np.array([[10], [1], [2], [10]])})  # 10 is the digit 0
    monkeypatch.setattr(sets.SVHN, "split_list", {split: ["", f"{split}.mat", None] for split in ("train", "test")})
    source = opened(tmp_path, "SVHN", train={"split": "train"}, test={"split": "test"})
    assert source.classes == ["0", "1", "2"]
    assert labels(source, "train") == [0, 1, 2, 0]
    np.testing.assert_array_equal(decoded(source, "test"), pixels.transpose(3, 0, 1, 2))


def test_mnist_stays_grey(tmp_path: Path):
    for split, count in (("train", 3), ("t10k", 2)):
        raw = tmp_path / "MNIST" / "raw"
        header = b"\0\0\x08\x03" + b"".join(n.to_bytes(4, "big") for n in (count, 28, 28))
        write(raw / f"{split}-images-idx3-ubyte", header + RANDOM.integers(0, 255, (count, 28, 28), np.uint8).tobytes())
        write(raw / f"{split}-labels-idx1-ubyte", b"\0\0\x08\x01" + count.to_bytes(4, "big") + bytes(range(count)))
    source = opened(tmp_path, "MNIST", **SPLITS)
    assert source.classes[1] == "1 - one"
    assert labels(source, "train") == [0, 1, 2]
    assert decoded(source, "train")[0].shape == (28, 28)


def test_food101_keeps_its_jpegs(tmp_path: Path):
    for split, start in (("train", 0), ("test", 2)):
        names = {food: [f"{food}/{i}" for i in range(start, start + 2)] for food in ("pie", "soup")}
        write(tmp_path / "food-101" / "meta" / f"{split}.json", json.dumps(names))
        for name in [*names["pie"], *names["soup"]]:
            jpeg(tmp_path / "food-101" / "images" / f"{name}.jpg")
    source = opened(tmp_path, "Food101", train={"split": "train"}, test={"split": "test"})
    assert source.classes == ["pie", "soup"]
    assert [(s.key, s.extension, s.label) for s in source.splits["test"]] == [
        (f"food-101/images/{food}/{i}", "jpg", label) for label, food in enumerate(("pie", "soup")) for i in (2, 3)
    ]
    assert keeps_bytes(source, tmp_path)


def test_dtd_trains_on_two_of_its_splits(tmp_path: Path):
    folder = tmp_path / "dtd" / "dtd"
    for i, split in enumerate(("train", "val", "test")):
        names = [f"{texture}/{texture}_{i}.jpg" for texture in ("banded", "dotted")]
        write(folder / "labels" / f"{split}1.txt", "\n".join(names) + "\n")
        for name in names:
            jpeg(folder / "images" / name)
    source = opened(tmp_path, "DTD", train=[{"split": "train"}, {"split": "val"}], test={"split": "test"})
    assert [sample.key.rpartition("/")[2] for sample in source.splits["train"]] == [
        "banded_0",
        "banded_1",
        "dotted_0",
        "dotted_1",
    ]
    assert labels(source, "train") == [0, 0, 1, 1]
    assert keeps_bytes(source, tmp_path)


def test_flowers102(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "flowers-102"
    monkeypatch.setattr(sets.Flowers102, "_file_dict", {"label": ("labels.mat", None), "setid": ("setid.mat", None)})
    for i in range(1, 7):
        jpeg(folder / "jpg" / f"image_{i:05d}.jpg")
    scipy.io.savemat(folder / "labels.mat", {"labels": [102, 1, 2, 102, 1, 2]})
    scipy.io.savemat(folder / "setid.mat", {"trnid": [2, 1], "valid": [3, 4], "tstid": [5, 6]})
    source = opened(tmp_path, "Flowers102", train={"split": "train"}, test={"split": "test"})
    assert len(source.classes) == 102
    assert [(s.origin, s.label) for s in source.splits["train"]] == [
        ("flowers-102/jpg/image_00001.jpg", 101),
        ("flowers-102/jpg/image_00002.jpg", 0),
    ]
    assert keeps_bytes(source, tmp_path)


def test_oxford_pets(tmp_path: Path):
    folder = tmp_path / "oxford-iiit-pet"
    for split, i in (("trainval", 0), ("test", 1)):
        write(folder / "annotations" / f"{split}.txt", f"Birman_{i} 1 1 1\nbeagle_{i} 2 2 1\n")
        for pet in ("Birman", "beagle"):
            jpeg(folder / "images" / f"{pet}_{i}.jpg")
    source = opened(tmp_path, "OxfordIIITPet", train={"split": "trainval"}, test={"split": "test"})
    assert source.classes == ["Birman", "Beagle"]
    assert labels(source, "train") == [0, 1]
    assert keeps_bytes(source, tmp_path)


def test_fgvc_aircraft(tmp_path: Path):
    data = tmp_path / "fgvc-aircraft-2013b" / "data"
    write(data / "families.txt", "A300\nBoeing 737\n")
    for split, i in (("trainval", 0), ("test", 1)):
        write(data / f"images_family_{split}.txt", f"10{i} Boeing 737\n20{i} A300\n")
        for name in (f"10{i}", f"20{i}"):
            jpeg(data / "images" / f"{name}.jpg")
    level = {"annotation_level": "family"}
    source = opened(tmp_path, "FGVCAircraft", train={"split": "trainval", **level}, test={"split": "test", **level})
    assert source.classes == ["A300", "Boeing 737"]
    assert labels(source, "test") == [1, 0]
    assert keeps_bytes(source, tmp_path)


def test_stanford_cars(tmp_path: Path):
    folder = tmp_path / "stanford_cars"
    for split, annotations in (("train", "devkit/cars_train_annos.mat"), ("test", "cars_test_annos_withlabels.mat")):
        write(folder / annotations, b"")
        rows = np.array([(f"{split}1.jpg", 2), (f"{split}2.jpg", 1)], [("fname", object), ("class", object)])
        (folder / "devkit").mkdir(exist_ok=True)
        scipy.io.savemat(folder / annotations, {"annotations": rows})
        for i in (1, 2):
            jpeg(folder / f"cars_{split}" / f"{split}{i}.jpg")
    scipy.io.savemat(folder / "devkit" / "cars_meta.mat", {"class_names": np.array(["Audi", "BMW"], object)})
    source = opened(tmp_path, "StanfordCars", train={"split": "train"}, test={"split": "test"})
    assert source.classes == ["Audi", "BMW"]
    assert labels(source, "train") == [1, 0]
    assert keeps_bytes(source, tmp_path)
    with pytest.raises(
        ValueError, match=r"torchvision can't download StanfordCars: put stanford_cars/ with devkit/.* download: false"
    ):
        opened(tmp_path, "StanfordCars", train={"split": "train"}, test={"split": "test"}, download=True)


def test_eurosat_has_no_test_split_of_its_own(tmp_path: Path):
    for land in ("Forest", "River"):
        for i in range(5):
            jpeg(tmp_path / "eurosat" / "2750" / land / f"{land}_{i}.jpg")
    source = opened(tmp_path, "EuroSAT", train={}, test=None, test_fraction=0.4)
    assert source.classes == ["Forest", "River"]
    assert labels(source, "train") == [0] * 3 + [1] * 3
    assert labels(source, "test") == [0] * 2 + [1] * 2
    assert keeps_bytes(source, tmp_path)


def test_imagenet_classes_are_wnids(tmp_path: Path):
    wnids = ["n01440764", "n01443537"]
    torch.save(({wnid: (f"fish {wnid}",) for wnid in wnids}, []), tmp_path / "meta.bin")
    for split in ("train", "val"):
        for wnid in wnids:
            jpeg(tmp_path / split / wnid / f"{wnid}_{split}.JPEG")
    source = opened(tmp_path, "ImageNet", train={"split": "train"}, test={"split": "val"})
    assert source.classes == wnids
    assert [s.key for s in source.splits["test"]] == [f"val/{wnid}/{wnid}_val" for wnid in wnids]
    assert keeps_bytes(source, tmp_path)


def test_caltech101_and_gtsrb(tmp_path: Path):
    for name in ("BACKGROUND_Google", "ant", "bass"):
        for i in (1, 2):
            jpeg(tmp_path / "caltech101" / "101_ObjectCategories" / name / f"image_{i:04d}.jpg")
    source = opened(tmp_path, "Caltech101", train={}, test=None, test_fraction=0.5)
    assert source.classes == ["ant", "bass"]
    assert len(source.splits["train"]) == 2
    assert keeps_bytes(source, tmp_path)
    for label in ("00000", "00001"):
        write(tmp_path / "gtsrb" / "GTSRB" / "Training" / label / f"{label}_0.ppm", b"P6 1 1 255 abc")
    write(tmp_path / "gtsrb" / "GTSRB" / "Final_Test" / "Images" / "0.ppm", b"P6 1 1 255 abc")
    write(tmp_path / "gtsrb" / "GT-final_test.csv", "Filename;ClassId\n0.ppm;1\n")
    source = opened(tmp_path, "GTSRB", train={"split": "train"}, test={"split": "test"})
    assert source.classes == ["0", "1"]
    assert [(s.extension, s.label) for s in source.splits["test"]] == [("ppm", 1)]
    assert keeps_bytes(source, tmp_path)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("CIFAR11", {}, r"got 'CIFAR11' \(did you mean CIFAR100? or CIFAR100?"),
        ("Kinetics", {}, "must be an image-classification class of torchvision.datasets, got 'Kinetics'"),
        ("CIFAR10", {}, r"CIFAR10\(train=True\) can't be read from .*: put cifar-10-batches-py/ .* or set download: true"),
        ("ImageNet", {"train": {"split": "train"}}, r"ImageNet\(.* put ILSVRC2012_devkit_t12.tar.gz, .* into "),
        ("ImageNet", {"download": True}, "torchvision can't download ImageNet: put ILSVRC2012_devkit_t12.tar.gz, "),
        ("USPS", {}, r"USPS\(train=True\) can't be read from .*: put usps.bz2 and usps.t.bz2 into "),
        ("CIFAR10", {"train": {"split": "train"}}, "unexpected keyword argument 'split'; its signature is "),
        ("SVHN", {"train": {"split": "training"}}, "Unknown value 'training' for argument split"),
        ("CIFAR10", {"train": {"download": True}}, "must not set download: the source does"),
    ],
)
def test_what_cannot_be_opened_says_what_to_do(tmp_path: Path, name: str, changes: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        opened(tmp_path, name, **SPLITS | changes)


def test_a_failed_download_is_no_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", offline)
    with pytest.raises(ValueError, match=r"can't be read from .*: put cifar-10-batches-py/ .* \(OSError: no network\)"):
        opened(tmp_path, "CIFAR10", **SPLITS, download=True)


@pytest.mark.usefixtures("cifar10")
def test_download_is_asked_for_only_where_params_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked = []
    monkeypatch.setattr(sets.CIFAR10, "download", lambda dataset: asked.append(dataset.train))
    opened(tmp_path, "CIFAR10", **SPLITS)
    assert asked == []
    opened(tmp_path, "CIFAR10", **SPLITS, download=True)
    assert asked == [True, False]


def test_params_refuse_what_cannot_be_right(tmp_path: Path):
    with pytest.raises(ValueError, match="exactly one of `test` and `test_fraction`"):
        params(tmp_path, "EuroSAT", train={}, test=None)
    with pytest.raises(ValueError, match="test must be another split than train"):
        params(tmp_path, "CIFAR10", train={}, test={})
    with pytest.raises(ValueError, match="raw must not be where data is downloaded to"):
        params(tmp_path, "CIFAR10", **SPLITS, download=True, raw=str(tmp_path))


def test_every_known_name_is_a_class_of_torchvision():
    assert set(SETS) <= set(sets.__all__)
