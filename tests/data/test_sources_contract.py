"""What holds for every source: read from any process, keys and labels checked, and a quick start without torch."""

import io
import multiprocessing
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from rsa.data.sources import Dataset, Sample, Source, open_source
from rsa.data.sources.embedded import Digits, PhotoTiles, TranslatedDigits
from rsa.data.sources.folder import Folder
from rsa.data.sources.source import ReadKey, checked, key_of
from rsa.data.sources.webdataset import WebDataset

ROOT = Path(__file__).resolve().parents[2]


def write(path: Path) -> None:
    """The same few images as folder, zip, tar and a WebDataset shard."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "JPEG")
    with zipfile.ZipFile(path / "raw.zip", "w") as archive, tarfile.open(path / "raw.tar", "w") as tar:
        for name in ("cat", "dog"):
            (path / "raw" / name).mkdir(parents=True)
            for i in range(20):
                file = path / "raw" / name / f"{i}.jpg"
                file.write_bytes(buffer.getvalue() + f"{name} {i}".encode())
                archive.write(file, f"{name}/{i}.jpg")
                tar.add(file, f"{name}/{i}.jpg")
    with tarfile.open(path / "shard.tar", "w") as tar:
        for label, name in enumerate(("cat", "dog")):
            (path / "cls").write_text(str(label))
            for i in range(20):
                tar.add(path / "raw" / name / f"{i}.jpg", f"{name}_{i}.jpg")
                tar.add(path / "cls", f"{name}_{i}.cls")


def dataset(path: Path, kind: str) -> Dataset:
    test: dict[str, Any] = {"test": None, "test_fraction": 0.5}
    match kind:
        case "digits":
            return Digits(source="digits", raw="none", size=8, test_fraction=0.2)
        case "translated_digits":
            return TranslatedDigits(source="translated_digits", raw="none", canvas=24, size=[8, 16], test_fraction=0.2)
        case "photo_tiles":
            return PhotoTiles(source="photo_tiles", raw="none", tile=48, stride=48)
        case "webdataset":
            shard = str(path / "shard.tar")
            return WebDataset(source="webdataset", raw=shard, train=shard, image=["jpg"], label="cls", **test)
    sizes: dict[str, Any] = {"train_samples": None, "test_samples": None, "classes": None}
    return Folder(source="folder", raw=str(path / kind), train=".", **test, **sizes)


_source: Source  # of a worker


def _use(source: Source) -> None:
    global _source
    _source = source


def _read(sample: Sample) -> bytes:
    return _source.read(sample)


KINDS = ["raw", "raw.zip", "raw.tar", "webdataset", "digits", "translated_digits", "photo_tiles"]


@pytest.mark.parametrize("kind", KINDS)
def test_forked_workers_read_what_one_process_reads(tmp_path: Path, kind: str):
    write(tmp_path)
    source = open_source(dataset(tmp_path, kind), 0)
    samples = source.splits["train"][:40]
    expected = [source.read(sample) for sample in samples]  # before the fork, too
    with multiprocessing.get_context("fork").Pool(3, _use, (source,)) as pool:
        for _ in range(3):
            assert pool.map(_read, samples, chunksize=1) == expected


def test_spawned_workers_read_what_one_process_reads(tmp_path: Path):
    write(tmp_path)
    sources = [open_source(dataset(tmp_path, kind), 0) for kind in KINDS]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        for source in sources:
            samples = source.splits["train"][:5]
            assert pool.map(source.read, samples) == [source.read(sample) for sample in samples]


def test_listing_imports_neither_torch_nor_sklearn():
    program = "import sys, pipeline.shard; print(*sorted({'torch', 'torchvision', 'sklearn', 'webdataset'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == []


def source_of(split: str, *samples: tuple[str, int]) -> Source:
    listed = [Sample(key, "jpg", label, f"file {i}") for i, (key, label) in enumerate(samples)]
    return Source(["cat", "dog"], {split: listed}, ReadKey({}))


def test_the_label_of_unknown_images_is_for_pretraining():
    assert checked("raw", source_of("pretrain", ("a", -1), ("b", 1)))
    for split, label in (("train", -1), ("test", 2), ("pretrain", 2), ("pretrain", -2)):
        with pytest.raises(ValueError, match=f"raw: split '{split}': the label of file 0 must be in .*, got {label}"):
            checked("raw", source_of(split, ("a", label)))


def test_an_empty_split_and_samples_that_are_listed_twice_are_refused():
    with pytest.raises(ValueError, match="raw: split 'test' must have images, got none"):
        checked("raw", source_of("test"))
    twice = [Sample("a", "jpg", 0, "".join(("file ", "0"))) for _ in range(2)]
    with pytest.raises(ValueError, match="raw: split 'train': file 0 and file 0 must not be the same sample"):
        checked("raw", Source(["cat"], {"train": twice}, ReadKey({})))
    with pytest.raises(ValueError, match="raw: no image may be of both splits, train and test, got 1, among them file 0"):
        checked("raw", Source(["cat"], {"train": twice[:1], "test": [twice[1]._replace(key="b")]}, ReadKey({})))


@pytest.mark.parametrize(
    ("names", "changed"),
    [
        (["cat/1.jpg", "dog/1.jpg"], 0),
        (["猫/0.jpg", "狗/0.jpg", "cat/0.jpg"], 2),
        (["a/图片1.jpg", "a/图画1.jpg"], 2),
        (["a/x 1.jpg", "a/x.1.jpg", "a/X_1.jpg"], 3),
        (["a/1.jpg", "a/1.JPG", "a/1.png", "a/2.png"], 3),
        ([f"a/{'x' * 120}.jpg", f"a/{'x' * 121}.jpg"], 2),
        ([f"{'y' * 120}/{'x' * 80}.jpg", f"{'y' * 120}/{'x' * 80}.png"], 2),  # they fit, but not with a hash
        ([f"{'猫' * 60}/{i}.jpg" for i in range(3)], 0),
    ],
)
def test_names_of_any_kind_get_keys_that_are_unique_and_fit_into_a_tar(names: list[str], changed: int):
    """Only keys that need it are changed, each in the same way whatever the order of samples."""
    samples = [Sample(key_of(name), "jpg", 0, name) for name in names]
    keys = {}
    for order in (samples, samples[::-1]):
        got = checked("raw", Source(["cat"], {"train": order}, ReadKey({}))).splits["train"]
        assert [sample.origin for sample in got] == [sample.origin for sample in order]
        assert len({sample.key.casefold() for sample in got}) == len(names)
        for sample in got:
            assert re.fullmatch(r"[A-Za-z0-9_/-]+", sample.key)
            tarfile.TarInfo(f"{sample.key}.jpg").tobuf(tarfile.USTAR_FORMAT)
            assert keys.setdefault(sample.origin, sample.key) == sample.key
    assert sum(keys[sample.origin] != sample.key for sample in samples) == changed
