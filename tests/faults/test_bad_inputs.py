"""Fifty kinds of bad input: each ends in one line that names the file, key or sample, and leaves nothing half-written."""

import io
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from tests.faults.conftest import Count
from tests.faults.stages import ENCODER, LINEAR, MANIFEST, Pipeline

pytestmark = pytest.mark.faults

Spoil = Callable[[Pipeline], None]
SHARDS, FEATURES = "data/shards/digits", "features/byol/s0/digits"
ALL = {"test_fraction": None, "train_samples": None, "test_samples": None, "classes": None}
FOLDER = {"source": "folder", "train": "train", "test": "test"} | ALL
REMOTE = {"source": "remote_shards", "raw": "m", "url": "nowhere", "cache": "cache", "cache_bytes": 10**9}
VIT = {"backbone": "vit_tiny_patch16_224", "backbone_args": {}, "small_stem": False}


WARM = {"weights": "encoder", "file": "weights/none"}
NAN = float("nan")
NO_FLAGS: Mapping[str, str] = MappingProxyType({})


class Bad(NamedTuple):
    """A stage, what spoils its input, a part of the line that it must end in, and flags other than usual."""

    stage: str
    spoil: Spoil
    named: str
    flags: Mapping[str, str] = NO_FLAGS


def key(dotted: str, value: Any) -> Spoil:
    return lambda here: here.edit({dotted: value})


def text(name: str, content: str | bytes) -> Spoil:
    def write(here: Pipeline) -> None:
        (here.folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return write


def gone(name: str) -> Spoil:
    def remove(here: Pipeline) -> None:
        path = here.folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return remove


def half(name: str) -> Spoil:
    def cut(here: Pipeline) -> None:
        content = (here.folder / name).read_bytes()
        (here.folder / name).write_bytes(content[: len(content) // 2])

    return cut


def array(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Spoil:
    def save(here: Pipeline) -> None:
        np.save(here.folder / name, change(np.load(here.folder / name)))

    return save


def picture(color: int = 0) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 16), (color, color, color)).save(file, "PNG")
    return file.getvalue()


IMAGES = {f"{split}/{kind}/{i}.png": picture(40 * i) for split in ("train", "test") for kind in "ab" for i in range(4)}


def images(raw: str = "raw", files: dict[str, bytes] | None = None, **changes: Any) -> Spoil:
    """Make the dataset one of image files, in a folder, a zip or a tar by the name `raw`; with bad or missing ones."""
    files = {name: content for name, content in (IMAGES | (files or {})).items() if content is not None}

    def write(here: Pipeline) -> None:
        here.edit({"datasets.digits": FOLDER | {"raw": raw} | changes})
        path = here.folder / raw
        if raw.endswith(".zip"):
            with zipfile.ZipFile(path, "w") as archive:
                for name, content in files.items():
                    archive.writestr(name, content)
        elif raw.endswith(".tar"):
            with tarfile.open(path, "w") as tar:
                for name, content in files.items():
                    info = tarfile.TarInfo(name)
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
        else:
            for name, content in files.items():
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                (path / name).write_bytes(content)

    return write


def then(*spoils: Spoil) -> Spoil:
    return lambda here: [spoil(here) for spoil in spoils] and None


def at(raw: str) -> dict[str, str]:
    return {"raw": raw}


def flip_in_a_sample(here: Pipeline) -> None:
    path = here.folder / SHARDS / "test/000000.tar"
    content = bytearray(path.read_bytes())
    content[600] ^= 1
    path.write_bytes(content)


BAD = {
    # params.yaml, which stage `code` checks before anything else runs
    "no params.yaml": Bad("code", gone("params.yaml"), "params.yaml does not exist"),
    "no YAML": Bad("code", text("params.yaml", "a:\n\tb"), "params.yaml is not valid YAML"),
    "bytes that are no text": Bad("code", text("params.yaml", b"\xff\xfe\x00"), "params.yaml is not valid YAML"),
    "an unknown key": Bad("code", key("pretrain.epoch", 3), "pretrain.epoch is not a known key"),
    "a text for a number": Bad("code", key("pretrain.epochs", "3"), "pretrain.epochs must be a valid integer"),
    "a number that is none": Bad("code", key("methods.byol.optimizer.base_lr", NAN), "optimizer.base_lr must be a finite number"),
    "a share above 1": Bad("code", key("views.gray_prob", 1.5), "views.gray_prob must be"),
    "a range that falls": Bad("code", key("views.crop_scale", [1.0, 0.5]), "crop_scale must be [low, high]"),
    "an unknown method": Bad("code", key("methods.byol.method", "byoll"), "methods.byol.method must be a known name"),
    "an unknown source": Bad("code", key("datasets.digits.source", "digit"), "datasets.digits.source must be a known name"),
    "a dataset without a section": Bad("code", key("experiment.dataset", "cifar"), "experiment.dataset must be a section"),
    "a method without a section": Bad("code", key("experiment.methods", ["byol", "x"]), "experiment.methods must be a section"),
    "a control as baseline": Bad("code", then(key("experiment.methods", ["random"]), key("experiment.baseline", "random")),
                                 "experiment.baseline must be a method that is trained"),
    "a seed twice": Bad("code", key("experiment.seeds", [0, 0]), "seeds must not name anything twice"),
    "warmup without end": Bad("code", key("pretrain.warmup_epochs", 9), "warmup_epochs must be less than epochs"),
    "parts of a batch that do not fit": Bad("code", key("pretrain.accumulate", 5), "batch_size must be a multiple of accumulate"),
    "parts of one image": Bad("code", key("pretrain.accumulate", 32), "accumulate must leave parts of at least 2"),
    "a crop beyond the image": Bad("code", key("evaluation.crop", 24), "evaluation: crop must be at most resize"),
    "an unknown backbone": Bad("code", key("model.backbone", "resnet19"), "model.backbone must be a name that timm knows"),
    "arguments of no backbone": Bad("code", key("model.backbone_args", {"depht": 3}), "model.backbone_args must be arguments"),
    "views that a ViT does not take": Bad("code", key("model", VIT), "views.size must be a size that"),
    "a path that a shell expands": Bad("code", key("datasets.digits.raw", "~/x"), "digits.raw: a path must be written out"),
    "a protocol in two sections": Bad("code", key("linear.protocols", {"knn": LINEAR}), "linear.protocols must have other names"),
    # raw data
    "no raw data": Bad("shard", images(), "elsewhere", at("elsewhere")),
    "no folder of a split": Bad("shard", images(train="training"), "training", at("raw")),
    "no classes": Bad("shard", then(images(), gone("raw/train/a"), gone("raw/train/b")), "train", at("raw")),
    "an image cut off": Bad("shard", images(files={"train/a/9.png": picture()[:40]}), "train/a/9.png", at("raw")),
    "an image of 0 bytes": Bad("shard", images(files={"train/a/9.png": b""}), "train/a/9.png", at("raw")),
    "a text named as an image": Bad("shard", images(files={"test/b/9.jpg": b"hello"}), "test/b/9.jpg", at("raw")),
    "a class of the test split alone": Bad("shard", images(files={"test/c/0.png": picture()}), "c", at("raw")),
    "no zip": Bad("shard", then(images("raw.zip"), text("raw.zip", "hello")), "raw.zip", at("raw.zip")),
    "a zip cut off": Bad("shard", then(images("raw.zip"), half("raw.zip")), "raw.zip", at("raw.zip")),
    "a tar cut off": Bad("shard", then(images("raw.tar"), half("raw.tar")), "raw.tar", at("raw.tar")),
    "more samples than there are": Bad("shard", images(train_samples=99), "class 'a' must have at least 50 images", at("raw")),
    "a class that is not there": Bad("shard", images(classes=["a", "z"]), "z", at("raw")),
    "another --raw than params.yaml's": Bad("shard", images(), "raw must be datasets.digits.raw (raw)", at("weights")),
    "no manifest of remote shards": Bad("shard", then(key("datasets.digits", REMOTE), text("m", "[]")), "got m", at("m")),
    "a dataset that params.yaml lacks": Bad("shard", images(), "datasets.other is missing", {"dataset": "other"}),
    # shards
    "no manifest": Bad("pretrain", gone(MANIFEST), f"{MANIFEST} does not exist"),
    "a manifest cut off": Bad("pretrain", half(MANIFEST), "manifest.json"),
    "no shard": Bad("pretrain", gone(f"{SHARDS}/train/000000.tar"), "train/000000.tar must have"),
    "a shard cut off": Bad("pretrain", half(f"{SHARDS}/train/000000.tar"), "train/000000.tar must have"),
    "no index": Bad("pretrain", gone(f"{SHARDS}/train/index.npy"), "train/index.npy"),
    "an index cut off": Bad("pretrain", half(f"{SHARDS}/train/index.npy"), "train/index.npy"),
    "an index of other length": Bad("pretrain", array(f"{SHARDS}/train/index.npy", lambda x: x[1:]), "train/index.npy must have"),
    "a bit of a sample flipped": Bad("extract", flip_in_a_sample, "has other bytes than when it was sharded"),
    "more images in a batch than there are": Bad("pretrain", key("pretrain.batch_size", 4096), "batch_size must be at most"),
    "views that a ViT does not take, by hand": Bad("pretrain", key("model", VIT), "views.size must be a size that"),
    # encoders and features
    "no encoder": Bad("extract", gone(ENCODER), f"{ENCODER} does not exist"),
    "an encoder cut off": Bad("extract", half(ENCODER), f"{ENCODER} must be a safetensors file"),
    "an encoder that is a text": Bad("linear", text(ENCODER, "hello"), f"{ENCODER} must be a safetensors file"),
    "no encoder to start from": Bad("pretrain", key("pretrain.start", WARM), "weights/none"),
    "no features": Bad("probe", gone(f"{FEATURES}/train.npy"), "train.npy does not exist"),
    "features cut off": Bad("probe", half(f"{FEATURES}/train.npy"), "train.npy"),
    "labels cut off": Bad("probe", half(f"{FEATURES}/test_labels.npy"), "test_labels.npy"),
    "features that are a text": Bad("transfer", text(f"{FEATURES}/test.npy", "hello"), "test.npy"),
    "no label of a class": Bad("transfer", key("transfer.labels_per_class", [0]), "transfer.labels_per_class"),
    "an unknown protocol": Bad("linear", lambda here: None, "linear.protocols.slow is missing", {"protocol": "slow"}),
    # scores
    "no scores": Bad("report", gone("scores/byol/s0"), "scores must have scores of byol"),
    "no experiment": Bad("report", gone("code/experiment.yaml"), "code/experiment.yaml does not exist"),
    "an experiment cut off": Bad("report", half("code/experiment.yaml"), "code/experiment.yaml"),
}  # fmt: skip


def test_there_are_fifty_kinds() -> None:
    assert len(BAD) >= 50


@pytest.mark.parametrize("kind", BAD)
def test_bad_input(kind: str, undisturbed: Pipeline, tmp_path: Path, count: Count) -> None:
    stage, spoil, named, flags = BAD[kind]
    here = undisturbed.copy(tmp_path / "project").without(stage)
    spoil(here)
    code, printed = here.run(stage, **flags)
    assert code == 1, printed
    lines = printed.splitlines()
    assert len(lines) == 1 or stage == "shard", printed  # undecodable images are listed one by one
    assert lines[0].startswith(f"{stage}: error: "), printed
    assert named in printed
    assert "Traceback" not in printed
    assert here.result(stage) == {}
    assert list(here.folder.rglob("*.partial")) == []
    count("bad input")
