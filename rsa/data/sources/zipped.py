"""Random access to the members of a zip from any process.

`zipfile` only lists the members: it needs 600 bytes per member and cannot be shared by processes. The reader keeps a sorted
list of names and five numbers per member.
"""

import bisect
import stat
import struct
import zipfile
import zlib
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rsa.data.sources.archive import Stamp, check_name, check_size, check_stamp, check_total, is_read, refuse

LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, length of the name, length of the extra field; data follow those
ENCRYPTED = 1
Numbers = NDArray[np.int64]


def open_zip(path: Path) -> tuple[list[str], "ZipReader"]:
    """Return the sorted names (folders end in "/") and a reader; ValueError names a forbidden member."""
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            stamp = Stamp.of(file)
            infos = archive.filelist
            archive.NameToInfo.clear()  # so that each is freed below
    except (zipfile.BadZipFile, NotImplementedError) as why:
        raise ValueError(f"{path} must be a whole zip: {why}") from None
    names: list[str] = []
    rows = np.empty((len(infos), 5), np.int64)  # offset of the local header, bytes, bytes packed, method, crc
    while infos:
        info = infos.pop()
        _check(path, info)
        rows[len(names)] = (info.header_offset, info.file_size, info.compress_size, info.compress_type, info.CRC)
        names.append(info.filename.replace("\\", "/"))  # zips that .NET made before 4.6.1
    order = sorted(range(len(names)), key=names.__getitem__)
    names, rows = [names[i] for i in order], rows[order]
    _check_all(path, names, rows, stamp.size)
    return names, ZipReader(path, stamp, names, rows)


class ZipReader:
    """A reader of members by name; it opens the zip on each call, so it is safe with forks, threads and pickling."""

    def __init__(self, path: Path, stamp: Stamp, names: list[str], rows: Numbers) -> None:
        self.path, self.stamp, self.names, self.rows = path, stamp, names, rows

    def __call__(self, name: str) -> bytes:
        """Return the content of a member."""
        offset, size, packed, method, crc = map(int, self.rows[bisect.bisect_left(self.names, name)])
        with self.path.open("rb", buffering=0) as file:
            check_stamp(self.path, file, self.stamp)
            file.seek(offset)
            header = file.read(LOCAL_HEADER.size)
            if len(header) < LOCAL_HEADER.size or not header.startswith(b"PK\3\4"):
                raise ValueError(f"{self.path}: member {name!r} is not where the zip's directory says")
            _, name_length, extra_length = LOCAL_HEADER.unpack(header)
            file.seek(name_length + extra_length, 1)
            data = file.read(packed)
        if method == zipfile.ZIP_DEFLATED:
            try:
                data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, size + 1)
            except zlib.error as why:
                raise ValueError(f"{self.path}: member {name!r} is damaged: {why}") from None
        if len(data) != size or zlib.crc32(data) != crc:
            raise ValueError(f"{self.path}: member {name!r} is damaged: its size or CRC is not what the zip's directory says")
        return data


def _check(path: Path, info: zipfile.ZipInfo) -> None:
    archive, name = str(path), info.orig_filename
    check_name(archive, name)
    kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where the zip was not made on Unix
    if kind == stat.S_IFLNK:
        refuse(archive, name, "must not be a link")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        refuse(archive, name, "must be a file or a folder")
    if info.flag_bits & ENCRYPTED:
        refuse(archive, name, "must not be encrypted")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        refuse(archive, name, f"must be stored or deflated, got compression method {info.compress_type}")
    check_size(archive, name, info.file_size, info.compress_size)


def _check_all(path: Path, names: list[str], rows: Numbers, archive_size: int) -> None:
    """Raise ValueError for duplicate names, for members that overlap, and for an excessive total size."""
    for before, name in pairwise(names):
        if before == name and not name.endswith("/"):
            refuse(str(path), name, "must be in the archive once, got twice")
    if not names:
        return
    by_offset = rows[:, 0].argsort()
    starts, ends = rows[by_offset, 0], rows[by_offset, 0] + LOCAL_HEADER.size + rows[by_offset, 2]
    limits = np.append(starts[1:], archive_size)
    for place in np.flatnonzero((starts < 0) | (ends > limits))[:1]:
        refuse(str(path), names[by_offset[place]], "must not overlap with what follows it")
    sizes = np.where([is_read(name) for name in names], rows[:, 1], 0)
    check_total(str(path), names[sizes.argmax()], int(sizes.sum()), archive_size)
