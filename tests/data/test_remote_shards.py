"""Shards on a real S3 server on loopback (moto's), read through a cache of bounded size, and what faults end in."""

import errno
import json
import multiprocessing
import shutil
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest

from rsa.data import cache, remote
from rsa.data.cache import RemoteShards, link_shards
from rsa.data.index import Split
from rsa.data.loader import TrainingViews
from rsa.data.sources import open_source
from rsa.data.sources.webdataset import WebDataset
from rsa.data.verify import verify
from rsa.data.views import candidates
from rsa.params.document import Params
from rsa.params.load import load
from tests.data.s3 import KEY, SECRET, Faulty, faulty, forget, moto


@pytest.fixture(scope="module")
def server() -> Iterator[Faulty]:
    """The server, and what comes between."""
    with moto() as port, faulty(port) as proxy:
        yield proxy


@pytest.fixture
def s3(server: Faulty) -> Iterator[Faulty]:
    yield server
    server.inject("")


@pytest.fixture(scope="module")
def uploaded(server: Faulty, shards: Path) -> str:
    return upload(shards, "photos")


def upload(shards: Path, name: str) -> str:
    url = f"s3://shards/{name}"
    fsspec.filesystem("s3").put(str(shards), url, recursive=True)
    return url


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little patience."""
    monkeypatch.setattr(remote, "FIRST_PAUSE", 0.01)
    monkeypatch.setitem(remote.OPTIONS["s3"]["config_kwargs"], "read_timeout", 1)


def section(url: str, shards: Path, tmp_path: Path, cache_bytes: int = 10**9) -> RemoteShards:
    """`raw` is the manifest of the shards as they are here."""
    where = {"raw": str(shards / "manifest.json"), "url": url, "cache": str(tmp_path / "cache"), "cache_bytes": cache_bytes}
    return RemoteShards.model_validate({"source": "remote_shards", **where})


@pytest.fixture
def linked(uploaded: str, shards: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "linked"
    folder.mkdir()
    link_shards(section(uploaded, shards, tmp_path), folder)
    return folder


def with_cache_of(bytes: int, linked: Path) -> Split:
    where = linked / "remote.json"
    where.write_text(where.read_text().replace('"cache_bytes": 1000000000', f'"cache_bytes": {bytes}'))
    return Split(linked, "train")


def held(tmp_path: Path) -> int:
    return sum(path.stat().st_size for path in (tmp_path / "cache").iterdir())


def test_the_manifest_is_that_of_the_shards_wherever_they_are(linked: Path, shards: Path, uploaded: str, tmp_path: Path):
    """So nothing runs again when the cache or the server is another one."""
    assert (linked / "manifest.json").read_bytes() == (shards / "manifest.json").read_bytes()
    where = {"url": uploaded, "cache": str(tmp_path / "cache"), "cache_bytes": 10**9}
    assert json.loads((linked / "remote.json").read_text()) == where


def test_views_are_those_of_local_shards(linked: Path, shards: Path, tiny: Params):
    def first(folder: Path) -> list[np.ndarray]:
        loader = TrainingViews(Split(folder, "train"), candidates(tiny.views), batch_size=20, seed=0, threads=1)
        return [view.numpy() for view in next(iter(loader)).views]

    for got, want in zip(first(linked), first(shards), strict=True):
        np.testing.assert_array_equal(got, want)


def test_the_cache_stays_within_its_size(linked: Path, shards: Path, tmp_path: Path):
    limit = max(shard["bytes"] for shard in Split(shards, "train").shards) * 2
    split, local = with_cache_of(limit, linked), Split(shards, "train")
    for id in np.random.default_rng(0).permutation(len(split)):
        np.testing.assert_array_equal(split.read(int(id)), local.read(int(id)))
        assert held(tmp_path) <= limit


def read_all(folder: Path, seed: int) -> bool:
    """Whether a process with little cache for all of them reads what is there, and never sees more than it may hold."""
    split = Split(folder, "train")
    limit = split._cache.limit  # type: ignore[union-attr]
    for id in np.random.default_rng(seed).permutation(len(split)):
        split.read(int(id))  # checks name and checksum
        with split._cache._room():  # type: ignore[union-attr]
            sizes = [cache._space(path) for kind in ("tar", "partial") for path in split._cache.folder.glob(f"*.{kind}")]
        if sum(sizes) > limit:
            return False
    return True


def test_processes_share_a_cache_that_holds_less_than_they_read(linked: Path, shards: Path):
    with_cache_of(max(shard["bytes"] for shard in Split(shards, "train").shards) * 2, linked)
    with multiprocessing.get_context("fork").Pool(3) as pool:
        assert pool.starmap(read_all, [(linked, seed) for seed in range(3)]) == [True] * 3


def test_what_a_killed_download_has_left_gives_way(linked: Path, shards: Path, tmp_path: Path):
    largest = max(shard["bytes"] for shard in Split(shards, "train").shards)
    split = with_cache_of(largest, linked)
    left = tmp_path / "cache" / f"{'0' * 64}.{largest}.partial"
    left.touch()
    split.read(0)
    assert not left.exists()


def test_a_second_reader_fetches_nothing(linked: Path, shards: Path, s3: Faulty):
    [Split(linked, "train").read(id) for id in range(50)]
    s3.inject("error")
    np.testing.assert_array_equal(Split(linked, "train").read(7), Split(shards, "train").read(7))
    assert s3.met == []


@pytest.mark.parametrize("damage", ["cut off", "emptied", "a bit flipped"])
def test_a_damaged_copy_is_fetched_again(damage: str, linked: Path, shards: Path, tmp_path: Path):
    def spoil() -> None:
        for copy in (tmp_path / "cache").glob("*.tar"):
            content = bytearray(copy.read_bytes())
            content[600] ^= 1  # of the first image
            copy.unlink()
            copy.write_bytes({"cut off": content[:-1024], "emptied": b"", "a bit flipped": content}[damage])

    local = Split(shards, "train")
    [Split(linked, "train").read(id) for id in range(len(local))]
    spoil()
    split = Split(linked, "train")
    for id in range(len(local)):
        np.testing.assert_array_equal(split.read(id), local.read(id))
    spoil()
    assert verify(linked) == []


def test_a_cache_smaller_than_a_shard_is_refused(linked: Path):
    with pytest.raises(ValueError, match=r"cache_bytes must be at least the largest shard \(\d+ bytes, s3://.*\), got 1000"):
        with_cache_of(1000, linked).read(0)


def test_the_cache_is_where_the_environment_of_the_reader_says(linked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    where = linked / "remote.json"
    where.write_text(where.read_text().replace(str(tmp_path / "cache"), "$SHARD_CACHE/shards"))
    with pytest.raises(ValueError, match=r"cache must name a folder, got '\$SHARD_CACHE/shards': set the variable"):
        Split(linked, "train")
    monkeypatch.setenv("SHARD_CACHE", str(tmp_path / "there"))
    Split(linked, "train").read(0)
    assert len(list((tmp_path / "there" / "shards").glob("*.tar"))) == 1


def test_verify_fetches_and_checks_every_shard(linked: Path, s3: Faulty):
    assert verify(linked) == []
    shutil.rmtree(linked.parent / "cache")
    s3.inject("altered", "train/000001.tar")
    (fault,) = verify(linked)
    assert "train/000001.tar must be readable, got 6 times in a row: it must have sha256" in fault


# ---- faults ----


@pytest.mark.parametrize("fault", ["error", "slow_down", "reset", "cut", "stalled", "truncated", "altered"])
def test_a_passing_fault_is_tried_again_and_never_gives_wrong_data(fault: str, linked: Path, shards: Path, s3: Faulty):
    s3.inject(fault, ".tar", times=2)
    split, local = Split(linked, "train"), Split(shards, "train")
    for id in range(len(split)):
        np.testing.assert_array_equal(split.read(id), local.read(id))
    assert len(s3.met) == 2


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("error", "got 6 times in a row: .*InternalError, said the test; check the network, the server and the object"),
        ("slow_down", "got 6 times in a row: .*SlowDown, said the test"),
        ("reset", "got 6 times in a row: Connection was closed"),
        ("cut", "got 6 times in a row: .*(payload|Connection)"),
        ("truncated", r"got 6 times in a row: it must have \d+ bytes, got \d+"),
        ("altered", r"got 6 times in a row: it must have sha256 \w+, got \w+"),
    ],
)
def test_a_lasting_fault_is_tried_a_few_times_and_named(fault: str, words: str, linked: Path, tmp_path: Path, s3: Faulty):
    s3.inject(fault, ".tar")
    with pytest.raises(OSError, match=rf"^s3://shards/.*/train/00000\d\.tar must be readable, {words}"):
        Split(linked, "train").read(0)
    assert remote.TRIES <= len(s3.met) <= 2 * remote.TRIES  # aiohttp itself tries once more where nothing was answered
    assert list((tmp_path / "cache").glob("*.tar")) + list((tmp_path / "cache").glob("*.partial")) == []


def test_a_server_that_says_nothing_is_given_up(linked: Path, s3: Faulty, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(remote, "TRIES", 2)
    s3.inject("stalled", ".tar")
    with pytest.raises(OSError, match=r"must be readable, got 2 times in a row: .*[Tt]imeout"):
        Split(linked, "train").read(0)


def test_what_may_not_be_read_is_named_at_once(linked: Path, s3: Faulty):
    s3.inject("forbidden", ".tar")
    with pytest.raises(OSError, match=r"^s3://.*\.tar must be readable, got: AccessDenied.*; set AWS_ACCESS_KEY_ID"):
        Split(linked, "train").read(0)
    assert len(s3.met) == 1


def test_what_is_not_there_is_named_at_once(linked: Path):
    where = linked / "remote.json"
    where.write_text(where.read_text().replace("s3://shards/photos", "s3://shards/elsewhere"))
    with pytest.raises(OSError, match=r"^s3://shards/.*/train/00000\d\.tar must exist, got nothing there: put it there"):
        Split(linked, "train").read(0)


@pytest.mark.parametrize("missing", [["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"], ["AWS_SECRET_ACCESS_KEY"]])
def test_missing_credentials_are_one_line(
    missing: list[str], linked: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
):
    for name in missing:
        monkeypatch.delenv(name)
    forget()
    request.addfinalizer(forget)
    with pytest.raises(OSError, match=r"^s3://.*\.tar must be readable, got: .*credentials.*; set AWS_ACCESS_KEY_ID") as raised:
        Split(linked, "train").read(0)
    assert "\n" not in str(raised.value)


def test_a_full_disk_is_not_the_server_s_fault(linked: Path, monkeypatch: pytest.MonkeyPatch):
    def full(url: str, path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache, "download", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*/cache'"):
        Split(linked, "train").read(0)


@pytest.mark.usefixtures("s3")
def test_other_shards_than_those_of_the_manifest_are_refused(shards: Path, tmp_path: Path):
    uploaded = upload(shards, "others")
    index = f"{uploaded}/train/index.npy"
    fsspec.filesystem("s3").pipe(index, (shards / "train/index.npy").read_bytes()[:-1] + b"x")
    folder = tmp_path / "linked"
    folder.mkdir()
    with pytest.raises(OSError, match=r"index\.npy must be readable, .*: it must have sha256 \w+, got \w+: are these the shards"):
        link_shards(section(uploaded, shards, tmp_path), folder)
    other = section(uploaded, shards, tmp_path).model_copy(update={"raw": "requirements.lock"})
    with pytest.raises(ValueError, match=r"raw must be a copy of the manifest\.json beside the shards at s3://.*, got req"):
        link_shards(other, folder)


@pytest.mark.parametrize("fault", ["error", "cut"])
def test_shards_of_others_are_read_through_passing_faults(fault: str, uploaded: str, shards: Path, s3: Faulty):
    described = {"source": "webdataset", "raw": "requirements.lock", "train": f"{uploaded}/train/*.tar", "image": ["jpg"]}
    s3.inject(fault, ".tar", times=2)
    source = open_source(WebDataset.model_validate({**described, "test": None, "test_fraction": 0.2, "label": "cls"}), 0)
    assert len(s3.met) == 2
    s3.inject(fault, ".tar", times=2)
    local = Split(shards, "train")
    want = {row["name"].decode(): local.read(id).tobytes() for id, row in enumerate(local.rows)}
    got = {f"{sample.key}.jpg": source.read(sample) for samples in source.splits.values() for sample in samples}
    assert got == want
    assert len(s3.met) == 2
    s3.inject(fault, ".tar")
    with pytest.raises(OSError, match=r"^s3://.*\.tar must be readable, got 6 times in a row: "):
        source.read(source.splits["train"][0])


def test_nothing_of_the_credentials_is_written(linked: Path, tmp_path: Path):
    Split(linked, "train").read(0)
    contents = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(contents) > 4
    assert not any(secret.encode() in content for content in contents for secret in (KEY, SECRET))


def test_a_url_with_credentials_in_it_is_refused_and_not_shown(write_params, tmp_path: Path):
    for url in ("s3://me:hidden@bucket/x", "https://host/x.tar?X-Amz-Signature=hidden"):
        place = {"raw": "m.json", "url": url, "cache": "c", "cache_bytes": 1}
        path = write_params({"datasets.digits": {"source": "remote_shards", **place}})
        with pytest.raises(ValueError, match=r"datasets\.digits\.url: a URL must have no password or signature") as raised:
            load(path)
        assert "hidden" not in str(raised.value)
