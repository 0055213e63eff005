"""Random access to the members of an uncompressed tar from any process, and a checked walk over its members."""

import bisect
import tarfile
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from rsa.data.sources.archive import Stamp, check_name, check_size, check_stamp, refuse

COMPRESSED = {b"\x1f\x8b": "gunzip", b"BZh": "bunzip2", b"\xfd7zXZ": "unxz", b"\x28\xb5\x2f\xfd": "unzstd"}


def open_tar(path: Path) -> tuple[list[str], "TarReader"]:
    """Return the sorted names (folders end in "/") and a reader; ValueError names a forbidden member."""
    names, offsets, sizes = [], [], []
    with path.open("rb") as file:
        stamp = Stamp.of(file)
        for member in walk_tar(file, str(path)):
            names.append(member.name + "/" * member.isdir())
            offsets.append(member.offset_data)
            sizes.append(member.size)
    order = sorted(range(len(names)), key=names.__getitem__)
    names = [names[i] for i in order]
    for before, name in pairwise(names):
        if before == name and not name.endswith("/"):
            refuse(str(path), name, "must be in the archive once, got twice")
    return names, TarReader(path, stamp, names, np.array(offsets, np.int64)[order], np.array(sizes, np.int64)[order])


class TarReader:
    """A reader of members by name; it opens the tar on each call, so it is safe with forks, threads and pickling."""

    def __init__(self, path: Path, stamp: Stamp, names: list[str], offsets: NDArray[np.int64], sizes: NDArray[np.int64]) -> None:
        self.path, self.stamp, self.names, self.offsets, self.sizes = path, stamp, names, offsets, sizes

    def __call__(self, name: str) -> bytes:
        """Return the content of a member."""
        row = bisect.bisect_left(self.names, name)
        with self.path.open("rb", buffering=0) as file:
            check_stamp(self.path, file, self.stamp)
            file.seek(int(self.offsets[row]))
            data = file.read(int(self.sizes[row]))
        if len(data) < self.sizes[row]:
            raise ValueError(f"{self.path}: member {name!r} must have {self.sizes[row]} bytes, got {len(data)}")
        return data


def walk_tar(file: BinaryIO, archive: str) -> Iterator[tarfile.TarInfo]:
    """Iterate over the files and folders of a tar in order; the caller may read and seek `file` in between.

    ValueError if the tar is compressed (no random access), truncated or damaged, or has a forbidden member.
    """
    start = file.read(8)
    for magic, command in COMPRESSED.items():
        if start.startswith(magic):
            raise ValueError(f"{archive} must be an uncompressed tar, to be read at random: decompress it (`{command}`) first")
    size = file.seek(0, 2)
    file.seek(0)
    last = "its start"
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            while (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # else it keeps them all
                _check(archive, member, size)
                last = repr(member.name)
                yield member
            end = tar.offset  # where the next header would be
            file.seek(end)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise ValueError(f"{archive} is cut short or damaged after {last}: byte {end:,} must begin a member or the end")
            if any(any(part) for part in iter(partial(file.read, 2**20), b"")):
                raise ValueError(f"{archive} must end at byte {end:,}, after {last}, got more: is it two tars in one file?")
    except tarfile.TarError as why:
        raise ValueError(f"{archive} is cut short or damaged after {last}: {why}") from None


def _check(archive: str, member: tarfile.TarInfo, archive_size: int) -> None:
    check_name(archive, member.name)
    if member.issym() or member.islnk():
        refuse(archive, member.name, "must not be a link")
    if not (member.isreg() or member.isdir()) or member.issparse():
        refuse(archive, member.name, "must be a plain file or a folder")
    check_size(archive, member.name, member.size, packed=member.size)
    if member.offset_data + member.size > archive_size:
        raise ValueError(
            f"{archive} is cut short: member {member.name!r} must end at byte {member.offset_data + member.size:,}, "
            f"got {archive_size:,} bytes in all"
        )
