"""What holds for every source: read from any process, keys and labels checked, and a quick start without torch."""

import io
import multiprocessing
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from rsa.data.sources import Dataset, Sample, Source, open_source
from rsa.data.sources.embedded import Digits, PhotoTiles
from rsa.data.sources.folder import Folder
from rsa.data.sources.source import ReadKey, checked
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
            return Digits(source="digits", raw="", size=8, test_fraction=0.2)
        case "photo_tiles":
            return PhotoTiles(source="photo_tiles", raw="", tile=48, stride=48)
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


KINDS = ["raw", "raw.zip", "raw.tar", "webdataset", "digits", "photo_tiles"]


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


def test_an_empty_split_and_keys_that_differ_in_case_are_refused():
    with pytest.raises(ValueError, match="raw: split 'test' must have images, got none"):
        checked("raw", source_of("test"))
    with pytest.raises(ValueError, match="raw: split 'train': file 0 and file 1 both get the key 'A/b'"):
        checked("raw", source_of("train", ("a/B", 0), ("A/b", 1)))
