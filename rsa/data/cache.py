"""Shards on object storage, read through a local folder of bounded size.

A shard is fetched when one of its samples is first read, checked against the manifest's size and sha256, and evicted in
least-recently-used order when space is needed. Every epoch reads all shards in random order throughout, so the cache should
have the size of the dataset; otherwise training waits for the network (docs/scaling.md has timings).

    <cache>/SHA256.tar               a shard
    <cache>/SHA256.SIZE.partial      a download in progress, which counts toward the limit
    <cache>/SHA256.lock, all.lock    lock of that shard; eviction lock
"""

import json
import os
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO, Literal

from rsa.data.files import INDEX, MANIFEST, REMOTE, sha256
from rsa.data.remote import FULL, URL, download, retried
from rsa.file_locks import BusyError, held
from rsa.params.section import Count, FilePath, Section

WAIT = 0.2  # seconds between attempts to reserve space


class RemoteShards(Section):
    """Section of shards on remote storage."""

    source: Literal["remote_shards"]
    raw: FilePath
    url: URL
    cache: str
    cache_bytes: Count


class ShardCache:
    """Local copies, in `folder`, of files below `url` (anything that fsspec opens), at most `limit` bytes of them."""

    def __init__(self, url: str, folder: Path, limit: int) -> None:
        self.url, self.folder, self.limit = url.rstrip("/"), folder, limit
        folder.mkdir(parents=True, exist_ok=True)

    def open(self, name: str, size: int, digest: str, *, check: bool = False) -> BinaryIO:
        """Open the local copy of `name`, which must have this size in bytes and sha256. Safe in concurrent processes.

        A copy of another size, or with `check` of another sha256, is fetched again. OSError if it cannot be fetched.
        """
        if size > self.limit:
            raise ValueError(
                f"cache_bytes must be at least the largest shard ({size} bytes, {self.url}/{name}), got {self.limit}"
            )
        path = self.folder / f"{digest}.tar"
        with held(path.with_suffix(".lock")):
            if not path.exists() or path.stat().st_size != size or (check and sha256(path) != digest):
                with self._room():
                    path.unlink(missing_ok=True)
                self._fetch(name, size, digest, path)
            os.utime(path)  # mark as recently used
            return path.open("rb")  # from here on another process may evict it

    def _fetch(self, name: str, size: int, digest: str, path: Path) -> None:
        url = f"{self.url}/{name}"
        partial = self.folder / f"{digest}.{size}.partial"

        def once() -> None:
            download(url, partial)
            if partial.stat().st_size != size:
                raise OSError(f"it must have {size} bytes, got {partial.stat().st_size}")
            if (actual := sha256(partial)) != digest:
                raise OSError(f"it must have sha256 {digest}, got {actual}")

        self._reserve(partial, size)
        try:
            retried(url, once)
            with self._room():
                partial.rename(path)
        except OSError as why:
            if why.errno in FULL:
                raise OSError(why.errno, why.strerror, str(self.folder)) from None
            raise
        finally:
            with self._room():
                partial.unlink(missing_ok=True)

    def _reserve(self, partial: Path, size: int) -> None:
        """Evict shards until `size` bytes are free, and reserve them."""
        while True:
            with self._room():
                files = [*self.folder.glob("*.tar"), *self.folder.glob("*.partial")]
                files.sort(key=lambda file: file.stat().st_mtime_ns)
                held = sum(map(_space, files))
                for file in files:
                    if held + size <= self.limit:
                        break
                    held -= self._remove(file)
                if held + size <= self.limit:
                    partial.touch()
                    return
            time.sleep(WAIT)  # other downloads hold the space

    def _remove(self, file: Path) -> int:
        """Remove a shard or a stale download unless another process is using it; return the bytes freed."""
        try:
            with held(self.folder / f"{file.name.partition('.')[0]}.lock", busy="somebody is at work on it"):
                space = _space(file)
                file.unlink()
                return space
        except BusyError:
            return 0

    def _room(self) -> AbstractContextManager[None]:
        """Hold the eviction lock: no other process adds or removes files meanwhile."""
        return held(self.folder / "all.lock")


def _space(file: Path) -> int:
    """Return the bytes that a file takes, or will take once downloaded."""
    _, *size, kind = file.name.split(".")
    return int(size[0]) if kind == "partial" else file.stat().st_size


def cache_of(remote: dict[str, Any], split: str) -> ShardCache:
    """Build the cache that `remote` describes; $NAME and ~ in its path are expanded on this machine."""
    folder = os.path.expanduser(os.path.expandvars(remote["cache"]))
    if "$" in folder:
        raise ValueError(f"cache must name a folder, got {remote['cache']!r}: set the variable in the environment")
    return ShardCache(f"{remote['url']}/{split}", Path(folder), remote["cache_bytes"])


def link_shards(p: RemoteShards, folder: Path) -> None:
    """Write the indexes of the shards at `p.url`, the manifest `p.raw` and the location of the tars into `folder`.

    ValueError if `p.raw` is not their manifest, OSError if they cannot be read.
    """
    try:
        manifest = json.loads(Path(p.raw).read_text())
        splits = manifest["splits"]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"raw must be a copy of the {MANIFEST} beside the shards at {p.url}, got {p.raw}") from None
    url = p.url.rstrip("/")
    for split, recorded in splits.items():
        (folder / split).mkdir()
        _fetch_index(f"{url}/{split}/{INDEX}", folder / split / INDEX, recorded["index_sha256"])
    remote = {"url": url, "cache": p.cache, "cache_bytes": p.cache_bytes}
    (folder / REMOTE).write_text(json.dumps(remote, indent=1) + "\n")  # not in the manifest, which later stages watch
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")


def _fetch_index(url: str, path: Path, digest: str) -> None:
    def once() -> None:
        download(url, path)
        if (actual := sha256(path)) != digest:
            raise OSError(f"it must have sha256 {digest}, got {actual}: are these the shards of that {MANIFEST}?")

    retried(url, once)
