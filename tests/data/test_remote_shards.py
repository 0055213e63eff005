"""Shards on a real S3 server on loopback (moto's), read through a cache of bounded size."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest

from rsa.data import cache
from rsa.data.cache import ShardCache, link_shards
from rsa.data.index import Split
from rsa.data.loader import TrainingViews
from rsa.data.views import candidates
from rsa.params import Params, RemoteShards


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """A bucket's URL; credentials and address come from the environment, as everywhere."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(
        [sys.executable, "-c", "from moto.server import main; main()", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    settings = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "a-secret-of-the-test", "AWS_DEFAULT_REGION": "us-east-1"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**settings, "AWS_ENDPOINT_URL": address, "NO_PROXY": "127.0.0.1"}.items():
            patch.setenv(name, value)
        for _ in range(300):
            try:
                urllib.request.urlopen(address, timeout=1).close()
                break
            except (urllib.error.URLError, OSError):
                assert server.poll() is None
                time.sleep(0.1)
        fsspec.filesystem("s3").mkdir("shards")
        yield "s3://shards"
    server.terminate()
    server.wait()


@pytest.fixture
def uploaded(s3: str, shards: Path, tmp_path: Path) -> str:
    url = f"{s3}/{tmp_path.name}"
    fsspec.filesystem("s3").put(str(shards), url, recursive=True)
    return url


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "FIRST_PAUSE", 0.01)


def linked(url: str, tmp_path: Path, cache_bytes: int = 10**9) -> Path:
    folder = tmp_path / "linked"
    folder.mkdir()
    section = {"source": "remote_shards", "raw": "requirements.lock", "url": url, "cache": str(tmp_path / "cache")}
    link_shards(RemoteShards.model_validate({**section, "cache_bytes": cache_bytes}), folder)
    return folder


def held(tmp_path: Path) -> int:
    return sum(path.stat().st_size for path in (tmp_path / "cache").iterdir())


def test_views_are_those_of_local_shards(uploaded, shards, tmp_path, tiny: Params):
    def first(folder: Path) -> list[np.ndarray]:
        loader = TrainingViews(Split(folder, "train"), candidates(tiny.views), batch_size=20, seed=0, threads=1)
        return [view.numpy() for view in next(iter(loader)).views]

    for got, want in zip(first(linked(uploaded, tmp_path)), first(shards), strict=True):
        np.testing.assert_array_equal(got, want)


def test_the_cache_stays_within_its_size(uploaded, shards, tmp_path):
    limit = max(shard["bytes"] for shard in Split(shards, "train").shards) * 2
    split, local = Split(linked(uploaded, tmp_path, limit), "train"), Split(shards, "train")
    for id in np.random.default_rng(0).permutation(len(split)):
        np.testing.assert_array_equal(split.read(int(id)), local.read(int(id)))
        assert held(tmp_path) <= limit


def test_a_second_reader_fetches_nothing(uploaded, shards, tmp_path):
    folder = linked(uploaded, tmp_path)
    [Split(folder, "train").read(id) for id in range(50)]
    fsspec.filesystem("s3").rm(uploaded, recursive=True)
    np.testing.assert_array_equal(Split(folder, "train").read(7), Split(shards, "train").read(7))


def test_a_cache_smaller_than_a_shard_is_refused(uploaded, tmp_path):
    with pytest.raises(ValueError, match=r"cache_bytes must be at least the largest shard \(\d+ bytes, s3://.*\), got 1000"):
        Split(linked(uploaded, tmp_path, 1000), "train").read(0)


@pytest.mark.usefixtures("quick")
def test_a_changed_shard_is_refused_by_its_sha256_and_not_kept(uploaded, tmp_path):
    folder = linked(uploaded, tmp_path)
    files = fsspec.filesystem("s3")
    for path in files.glob(f"{uploaded}/train/*.tar"):
        data = files.cat(path)
        files.pipe(path, data[:-1] + b"x")
    with pytest.raises(OSError, match=r"after 4 tries: s3://.*\.tar must have sha256 \w+, got \w+"):
        Split(folder, "train").read(0)
    assert not list((tmp_path / "cache").glob("*.tar"))


@pytest.mark.usefixtures("quick")
def test_a_truncated_shard_is_refused_by_its_size(uploaded, tmp_path):
    folder = linked(uploaded, tmp_path)
    files = fsspec.filesystem("s3")
    for path in files.glob(f"{uploaded}/train/*.tar"):
        files.pipe(path, files.cat(path)[:1000])
    with pytest.raises(OSError, match=r"must have \d+ bytes, got 1000"):
        Split(folder, "train").read(0)


def test_what_is_not_there_is_named(uploaded, tmp_path):
    folder = linked(uploaded, tmp_path)
    fsspec.filesystem("s3").rm(f"{uploaded}/train", recursive=True)
    fsspec.filesystem("s3").invalidate_cache()
    with pytest.raises(OSError, match=r"cannot read remote shards: .*train/00000\d\.tar"):
        Split(folder, "train").read(0)


def test_a_passing_fault_is_tried_again(shards, tmp_path, monkeypatch, quick):
    shard = Split(shards, "train").shards[0]
    calls = []

    def failing(url: str, path: Path) -> None:
        calls.append(url)
        if len(calls) < 3:
            raise ConnectionResetError("cut")
        path.write_bytes((shards / "train" / shard["name"]).read_bytes())

    monkeypatch.setattr(cache, "download", failing)
    ShardCache("s3://x", tmp_path, 10**9).fetch(shard["name"], shard["bytes"], shard["sha256"])
    assert len(calls) == 3


def test_no_credentials_are_written(uploaded, tmp_path):
    Split(linked(uploaded, tmp_path), "train").read(0)
    secret = os.environ["AWS_SECRET_ACCESS_KEY"].encode()
    texts = [path.read_bytes() for path in (tmp_path / "linked").rglob("*.json")]
    assert texts
    assert not any(secret in text for text in texts)
