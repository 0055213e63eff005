"""Shards written by the `webdataset` package, read in place: local, by wildcard, by braces, on another file system."""

import json
import multiprocessing
import os
import tarfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from rsa.data.sources import Source, open_source
from rsa.data.sources.webdataset import WebDataset

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import webdataset as wds


def opened(train: str | list[str], **changes: Any) -> Source:
    values = {"source": "webdataset", "raw": "requirements.lock", "train": train, "test": None, "test_fraction": 0.5}
    return open_source(WebDataset.model_validate({**values, "image": ["jpg", "png"], "label": "cls", **changes}), 0)


def write_shard(path: Path, start: int, count: int = 4, **member: Any) -> str:
    """`count` samples; the label of each is its number modulo 2."""
    with path.open("wb") as file, wds.TarWriter(file) as writer:
        for i in reversed(range(start, start + count)):
            writer.write({"__key__": f"img{i:04d}", "jpg": f"image {i}".encode(), "cls": i % 2, **member})
    return str(path)


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    for number in range(3):
        write_shard(tmp_path / f"train-{number:03d}.tar", 4 * number)
    write_shard(tmp_path / "val.tar", 100)
    return tmp_path


@pytest.fixture
def memory(shards: Path) -> Iterator[str]:
    """The same shards at memory://."""
    filesystem = fsspec.filesystem("memory")
    for file in shards.glob("*.tar"):
        filesystem.pipe(f"/bucket/{file.name}", file.read_bytes())
    yield "memory://bucket"
    filesystem.rm("/bucket", recursive=True)


WHOLE = [(f"img{i:04d}", "jpg", i % 2) for i in range(12)]


def test_shards_are_found_by_name_braces_and_wildcards(shards: Path, memory: str):
    for top in (str(shards), f"file://{shards}", memory):
        for train in (f"{top}/train-{{000..002}}.tar", f"{top}/train-*.tar", [f"{top}/train-{i:03d}.tar" for i in (2, 0, 1)]):
            source = opened(train, test=f"{top}/val.tar", test_fraction=None)
            assert source.classes == ["0", "1"]
            assert [sample[:3] for sample in source.splits["train"]] == WHOLE
            assert [source.read(sample) for sample in source.splits["train"]] == [f"image {i}".encode() for i in range(12)]
            assert [source.read(sample) for sample in source.splits["test"]] == [f"image {i}".encode() for i in range(100, 104)]


def test_a_share_of_each_class_is_held_out(shards: Path):
    source = opened(f"{shards}/train-*.tar")
    assert [[s.label for s in split].count(0) for split in source.splits.values()] == [3, 3]


def _read_all(source: Source) -> list[bytes]:
    return [source.read(sample) for sample in source.splits["train"]]


def test_another_file_system_is_read_after_a_fork(memory: str):
    source = opened(f"{memory}/train-*.tar")
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(_read_all, [source] * 2) == [_read_all(source)] * 2


@pytest.mark.parametrize(("key", "written"), [("label", {"label": 1}), ("meta.class", {"meta": {"class": 1}})])
def test_a_label_can_be_a_number_in_json(tmp_path: Path, key: str, written: dict[str, Any]):
    shards = [
        write_shard(tmp_path / "a.tar", 0, 2, json={"label": 0, "meta": {"class": 0}}),
        write_shard(tmp_path / "b.tar", 2, 2, json=written),
    ]
    source = opened(shards, label=f"json.{key}")
    assert source.classes == ["0", "1"]
    assert sorted(sample.label for split in source.splits.values() for sample in split) == [0, 0, 1, 1]


def test_a_label_can_be_a_name_in_json(tmp_path: Path):
    train = [write_shard(tmp_path / f"{name}.tar", 10 * i, json={"label": name}) for i, name in enumerate(("dog", "cat"))]
    test = write_shard(tmp_path / "test.tar", 50, json={"label": "dog"})
    source = opened(train, test=test, test_fraction=None, label="json.label")
    assert source.classes == ["cat", "dog"]
    assert [sample.label for sample in source.splits["train"]] == [0] * 4 + [1] * 4
    assert [sample.label for sample in source.splits["test"]] == [1] * 4
    test = write_shard(tmp_path / "test.tar", 50, json={"label": "eel"})
    with pytest.raises(ValueError, match=r"test\.tar::img0050\.jpg has the label 'eel', which no training sample has"):
        opened(train, test=test, test_fraction=None, label="json.label")


@pytest.mark.parametrize(
    ("member", "label", "message"),
    [
        ({"cls": b"x"}, "cls", r"a\.tar::img0000\.cls must be a class number in ASCII, of at most 18 digits, got b'x'"),
        ({"cls": b"-1"}, "cls", r"must be a class number in ASCII, of at most 18 digits, got b'-1'"),
        ({"json": {"b": 1}}, "json.a", r"a\.tar::img0000\.json must be JSON with 'a', got KeyError: 'a'"),
        ({"json": b"{"}, "json.a", r"a\.tar::img0000\.json must be JSON with 'a', got JSONDecodeError"),
        ({"json": {"a": [1]}}, "json.a", r"must have a class number or name at 'a', got '\[1\]'"),
        ({"json": {"a": True}}, "json.a", r"must have a class number or name at 'a', got 'True'"),
        ({"json": {"a": 10**18}}, "json.a", r"must have a class number or name at 'a', got '10{18}'"),
        ({"json": b'{"a": ' + b"9" * 5000 + b"}"}, "json.a", r"a\.tar::img0000\.json must be JSON with 'a', got ValueError"),
        ({"json": b"[" * 100_000}, "json.a", r"a\.tar::img0000\.json must be JSON with 'a', got RecursionError"),
        ({"cls": b"9" * 20}, "cls", r"must be a class number in ASCII, of at most 18 digits, got b'9{20}'"),
        ({"cls": b"9" * 5000}, "cls", r"img0000\.cls must be a class number in ASCII, of at most 18 digits"),
        ({"cls": 10**17}, "cls", r"class 0 of 0 to 10{17} must have training images, got none \(10{17} such classes\)"),
        ({"jpg": b"", "png": b""}, "cls", r"a\.tar: 'img0000' must have one image, got img0000\.jpg and img0000\.png"),
        ({}, "json.a", r"a\.tar: img0000\.jpg must have its label in img0000\.json, got no such member"),
        ({"cls": 3}, "cls", r"class 0 of 0 to 3 must have training images, got none \(3 such classes\)"),
    ],
)
def test_a_sample_without_a_sound_label_or_image_is_named(tmp_path: Path, member: dict[str, Any], label: str, message: str):
    members = {"jpg": b"", "cls": 0, **member}
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for extension, value in members.items():
            content = value if isinstance(value, bytes) else json.dumps(value).encode()
            (tmp_path / "member").write_bytes(content)
            tar.add(tmp_path / "member", f"img0000.{extension}")
    with pytest.raises(ValueError, match=message):
        opened(str(tmp_path / "a.tar"), label=label)


def test_an_empty_shard_among_others_is_read_past(shards: Path):
    write_shard(shards / "train-003.tar", 0, count=0)
    source = opened(f"{shards}/train-*.tar")
    assert sorted(sample[:3] for split in source.splits.values() for sample in split) == WHOLE
    with pytest.raises(ValueError, match=r"train-003\.tar must hold images \(jpg, png\), got 1 empty shards"):
        opened(f"{shards}/train-003.tar")


def test_a_missing_shard_is_named(shards: Path, memory: str):
    for top in (str(shards), memory):
        with pytest.raises(ValueError, match=r"shard .*/train-003\.tar must exist, got nothing there: put it there"):
            opened(f"{top}/train-{{000..003}}.tar")
        with pytest.raises(ValueError, match=r".*/none-\*\.tar must match at least one shard, got none"):
            opened(f"{top}/none-*.tar")
    with pytest.raises(ValueError, match=r"shard .* must be a file, got a folder"):
        opened(str(shards))  # at once, without tries that need seconds
    with pytest.raises(ValueError, match=r"nowhere://x\.tar can't be opened: Protocol not known: nowhere"):
        opened("nowhere://x.tar")


def test_a_shard_that_comes_twice_is_named(shards: Path):
    with pytest.raises(ValueError, match=r"train-001\.tar must be named once, got more"):
        opened([f"{shards}/train-*.tar", f"{shards}/train-001.tar"])


def test_keys_may_come_again_in_other_shards(shards: Path):
    write_shard(shards / "train-003.tar", 0)
    source = opened(f"{shards}/train-*.tar")
    assert [len({sample.key for sample in split}) for split in source.splits.values()] == [8, 8]
    samples = [sample for split in source.splits.values() for sample in split]
    assert sorted(source.read(sample) for sample in samples)[:2] == [b"image 0"] * 2


@pytest.mark.parametrize("place", ["local", "memory"])
def test_a_truncated_shard_is_named(shards: Path, memory: str, place: str):
    whole = (shards / "train-001.tar").read_bytes()
    for size in (8 * 1024, 8 * 1024 - 200, 3000, 1024, 600, 0):
        (shards / "train-001.tar").write_bytes(whole[:size])
        fsspec.filesystem("memory").pipe("/bucket/train-001.tar", whole[:size])
        with pytest.raises(ValueError, match=r"train-001\.tar is cut short or damaged|train-001\.tar is cut short"):
            opened(f"{shards if place == 'local' else memory}/train-*.tar")


def test_a_shard_that_shrinks_after_it_was_listed_is_noticed(shards: Path):
    source = opened(f"{shards}/train-*.tar")
    os.truncate(shards / "train-001.tar", 1000)
    sample = next(s for split in source.splits.values() for s in split if s.key == "img0004")
    with pytest.raises(ValueError, match=r"train-001\.tar::img0004\.jpg must have 7 bytes, got 0: the shard has changed"):
        source.read(sample)


def test_links_and_compression_are_refused_as_in_any_archive(tmp_path: Path):
    link = tarfile.TarInfo("a.jpg")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.addfile(link)
    with pytest.raises(ValueError, match=r"a\.tar: member 'a\.jpg' must not be a link"):
        opened(str(tmp_path / "a.tar"))
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz"):
        pass
    with pytest.raises(ValueError, match=r"a\.tar\.gz must be an uncompressed tar"):
        opened(str(tmp_path / "a.tar.gz"))


def test_members_of_no_sample_are_counted_by_kind(tmp_path: Path):
    """A key ends at its file's first dot, as for the package webdataset: frame.0001.jpg is no jpg."""
    write_shard(tmp_path / "a.tar", 0)
    with tarfile.open(tmp_path / "a.tar", "a") as tar:
        for name in ("frame.0001.jpg", "frame.0001.cls", "img0000.txt", "readme"):
            tar.addfile(tarfile.TarInfo(name))
    assert opened(str(tmp_path / "a.tar")).left_out == {"jpg": 1, "cls": 1, "txt": 1, "no extension": 1}


def test_bytes_behind_the_end_of_a_tar_are_refused(shards: Path):
    both = shards / "both.tar"
    both.write_bytes((shards / "train-000.tar").read_bytes() + (shards / "train-001.tar").read_bytes())
    with pytest.raises(ValueError, match=r"both\.tar must end at byte .*, got more: is it two tars in one file\?"):
        opened(str(both))
