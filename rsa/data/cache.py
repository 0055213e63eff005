"""Shards on object storage, read through a local folder of bounded size.

A shard is fetched when a sample of it is first read, checked against the manifest's size and sha256, and kept until the
space is needed for others, least recently used first. The order of an epoch visits all shards all the time: give the
cache the size of the dataset, or training waits for the network.
"""

import fcntl
import json
import os
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec

from rsa.data.files import INDEX, MANIFEST, sha256
from rsa.params import RemoteShards

TRIES = 4  # of a download, with a pause between them that doubles
FIRST_PAUSE = 0.5  # seconds


class ShardCache:
    """Local copies, in `folder`, of files below `url` (anything that fsspec opens), at most `limit` bytes of them."""

    def __init__(self, url: str, folder: Path, limit: int) -> None:
        self.url, self.folder, self.limit = url.rstrip("/"), folder, limit
        folder.mkdir(parents=True, exist_ok=True)

    def fetch(self, name: str, size: int, digest: str) -> Path:
        """The local copy of `name`, which must have this size in bytes and sha256. Several processes may ask at once."""
        if size > self.limit:
            raise ValueError(
                f"cache_bytes must be at least the largest shard ({size} bytes, {self.url}/{name}), got {self.limit}"
            )
        path = self.folder / f"{digest}.tar"
        with self._locked(path.with_suffix(".lock")):
            if not path.exists():
                with self._locked(self.folder / "all.lock"):
                    self._make_room(size)
                retry(lambda: self._download(name, size, digest, path))
            os.utime(path)  # used now
        return path

    def _download(self, name: str, size: int, digest: str, path: Path) -> None:
        partial = path.with_suffix(".partial")
        download(f"{self.url}/{name}", partial)
        if partial.stat().st_size != size:
            raise OSError(f"{self.url}/{name} must have {size} bytes, got {partial.stat().st_size}")
        if (found := sha256(partial)) != digest:
            raise OSError(f"{self.url}/{name} must have sha256 {digest}, got {found}")
        partial.rename(path)

    def _make_room(self, size: int) -> None:
        shards = sorted(self.folder.glob("*.tar"), key=lambda path: path.stat().st_mtime_ns)
        held = sum(path.stat().st_size for path in shards)
        while held + size > self.limit:
            oldest = shards.pop(0)
            held -= oldest.stat().st_size
            oldest.unlink()

    @contextmanager
    def _locked(self, path: Path) -> Any:
        with path.open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield


def retry(action: Callable[[], None]) -> None:
    """Try an action on remote storage a few times; OSError says what the last try met."""
    for left in reversed(range(TRIES)):
        try:
            return action()
        except (FileNotFoundError, PermissionError) as why:  # no use in trying again
            raise OSError(f"cannot read remote shards: {why}") from why
        except OSError as why:
            if not left:
                raise OSError(f"cannot read remote shards after {TRIES} tries: {why}") from why
            time.sleep(FIRST_PAUSE * 2 ** (TRIES - 1 - left))


def download(url: str, path: Path) -> None:
    """Copy a file from anywhere that fsspec opens."""
    with fsspec.open(url, "rb") as source, path.open("wb") as copy:
        while block := source.read(1 << 20):
            copy.write(block)


def link_shards(p: RemoteShards, folder: Path) -> None:
    """Write into `folder` the manifest and the indexes of the shards at `p.url`, and where their tars are to be read."""
    url = p.url.rstrip("/")
    retry(lambda: download(f"{url}/{MANIFEST}", folder / MANIFEST))
    manifest = json.loads((folder / MANIFEST).read_text())
    for split, recorded in manifest["splits"].items():
        (folder / split).mkdir()
        index = folder / split / INDEX
        retry(lambda: download(f"{url}/{split}/{INDEX}", index))  # noqa: B023 - called here and now
        if sha256(index) != recorded["index_sha256"]:
            raise ValueError(f"{url}/{split}/{INDEX} must have sha256 {recorded['index_sha256']}, got {sha256(index)}")
    manifest["remote"] = {"url": url, "cache": p.cache, "cache_bytes": p.cache_bytes}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
