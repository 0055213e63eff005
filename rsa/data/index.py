"""Reading shards by sample: a memory-mapped index, memory-mapped tars, and a check on every read.

A stale index or a damaged shard must never yield wrong pixels: the index and shard sizes are checked against the manifest when
a split is opened, and the tar member's name and the checksum of its bytes against the index on every read.
"""

import copy
import hashlib
import json
import mmap
import zlib
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from rsa.data.cache import cache_of
from rsa.data.files import INDEX, MANIFEST, REMOTE, load_array, sha256

HEADER = 512  # bytes of a tar member's header, just before its data
OTHER_BYTES = "has other bytes than when it was sharded: run the `shard` stage again, or `dvc repro`, which restores it"
OPEN_SHARDS = 4096  # memory maps kept: a process may have about 65,000


def index_dtype(name_length: int) -> np.dtype[Any]:
    """Return the dtype of a row: location of the bytes, label, height and width in px after EXIF rotation, member name."""
    return np.dtype(
        [
            ("shard", "<u4"),
            ("offset", "<u8"),
            ("size", "<u4"),
            ("crc32", "<u4"),  # of the encoded bytes
            ("label", "<i4"),
            ("height", "<u4"),
            ("width", "<u4"),
            ("name", f"S{name_length}"),
        ]
    )


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a sharded dataset."""
    path = folder / MANIFEST
    if not path.is_file():
        raise ValueError(f"{path} does not exist: run the `shard` stage first")
    try:
        manifest: dict[str, Any] = json.loads(path.read_text())
    except ValueError as why:
        raise ValueError(f"{path} is cut off or damaged ({why}): run the `shard` stage again") from None
    return manifest


def pretraining_split(folder: Path) -> str:
    """Return the split to pretrain on: `pretrain` (may have unlabelled images) if the dataset has one, else `train`."""
    return "pretrain" if "pretrain" in read_manifest(folder)["splits"] else "train"


def image_digests(folder: Path) -> dict[str, str]:
    """Return the part of a result's origin that the images of a sharded dataset are."""
    splits = read_manifest(folder)["splits"]
    return {f"{name}_images": splits[name]["index_sha256"] for name in ("train", "test")}


@cache
def _digest(index: Path, _changed_ns: int) -> str:
    """Read an index, 5.6 GB for 100 million images, once in a process while it stays as it is."""
    return sha256(index)


class Split:
    """One split of a sharded dataset; sample ids are rows of its index."""

    def __init__(self, folder: Path, split: str) -> None:
        manifest = read_manifest(folder)
        if split not in manifest["splits"]:
            raise ValueError(f"{folder} must have a split {split!r}, got {', '.join(manifest['splits'])}")
        self.folder = folder / split
        self.classes: list[str] = manifest["classes"]
        self.index_sha256: str = manifest["splits"][split]["index_sha256"]
        self.shards: list[dict[str, Any]] = manifest["splits"][split]["shards"]
        remote = json.loads(path.read_text()) if (path := folder / REMOTE).is_file() else None
        self._cache = cache_of(remote, split) if remote else None
        for shard in self.shards if self._cache is None else []:
            path = self.folder / shard["name"]
            size = path.stat().st_size if path.is_file() else None
            if size != shard["bytes"]:
                size_here = "no such file" if size is None else f"{size} bytes"
                raise ValueError(f"{path} must have {shard['bytes']} bytes, got {size_here}: run the `shard` stage again")
        self.rows: NDArray[Any] = load_array(self.folder / INDEX, "shard", "r")
        if len(self.rows) != manifest["splits"][split]["samples"]:
            raise ValueError(
                f"{self.folder / INDEX} must have {manifest['splits'][split]['samples']} rows, got {len(self.rows)}: "
                "run the `shard` stage again"
            )
        if _digest(self.folder / INDEX, (self.folder / INDEX).stat().st_mtime_ns) != self.index_sha256:
            raise ValueError(f"{self.folder / INDEX} {OTHER_BYTES}")
        # A memory map keeps a deleted file's disk space, so a bounded cache needs a bounded number of maps.
        largest = max(shard["bytes"] for shard in self.shards)
        self._map = lru_cache(maxsize=max(1, remote["cache_bytes"] // largest) if remote else OPEN_SHARDS)(self._open)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def labels(self) -> NDArray[np.int64]:
        """Class numbers in id order: (N,)."""
        return self.rows["label"].astype(np.int64)

    def subset(self, ids: NDArray[np.int64]) -> Self:
        """Return the samples `ids`, in this order, as a new split."""
        split = copy.copy(self)
        split.rows = self.rows[ids]
        split.index_sha256 = hashlib.sha256(self.index_sha256.encode() + ids.astype("<i8").tobytes()).hexdigest()
        return split

    @property
    def keys(self) -> list[str]:
        """The samples' keys in id order: their member names without the suffix."""
        return [name.decode().rpartition(".")[0] for name in self.rows["name"]]

    def describe(self, id: int) -> str:
        """Return the location of a sample, for error messages."""
        row = self.rows[id]
        return f"{self.folder / self.shards[row['shard']]['name']}: sample {row['name'].decode()!r} (id {id})"

    def read(self, id: int) -> NDArray[np.uint8]:
        """Return the encoded bytes of a sample, a read-only view. A damaged copy of a remote shard is replaced."""
        try:
            return self._read(id)
        except ValueError:
            if self._cache is None:
                raise
        self._map.cache_clear()
        self.open_shard(int(self.rows[id]["shard"]), check=True).close()
        return self._read(id)

    def _read(self, id: int) -> NDArray[np.uint8]:
        row = self.rows[id]
        data, start, size = self._map(int(row["shard"])), int(row["offset"]), int(row["size"])
        if start + size > len(data) or member_name(data[start - HEADER : start]) != row["name"]:
            raise ValueError(f"{self.describe(id)} is not where the index says: run the `shard` stage again")
        encoded = np.frombuffer(data, np.uint8, size, start)
        if zlib.crc32(memoryview(data)[start : start + size]) != row["crc32"]:  # DALI's decoder can crash on damaged images
            raise ValueError(f"{self.describe(id)} {OTHER_BYTES}")
        return encoded

    def _open(self, number: int) -> mmap.mmap:
        with self.open_shard(number) as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def open_shard(self, number: int, *, check: bool = False) -> BinaryIO:
        """Open a shard's tar. A remote one is fetched if it is not here, or with `check` not whole; OSError if that fails."""
        shard = self.shards[number]
        if self._cache is not None:
            return self._cache.open(shard["name"], shard["bytes"], shard["sha256"], check=check)
        path: Path = self.folder / shard["name"]
        return path.open("rb")


def member_name(header: bytes) -> bytes:
    """Return the name in a USTAR header: up to 100 bytes, and a prefix of up to 155 bytes for longer names."""
    name, prefix = header[:100].rstrip(b"\0"), header[345:500].rstrip(b"\0")
    return prefix + b"/" + name if prefix else name
