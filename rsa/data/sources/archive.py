"""Safety checks of archives that are read as a dataset, the same for zip and tar.

An archive is refused, with the name of the member, for a path outside of the target folder, for a link or device, and for an
extreme size or expansion ratio of a member that may be read. Nothing is unpacked here, but users may unpack the shards elsewhere.
"""

import os
import re
from pathlib import Path
from typing import BinaryIO, NamedTuple, NoReturn

from rsa.data.sources.source import EXTENSIONS

MAX_BYTES = 512 * 2**20  # of a member: the pixels (2 * 89 million, RGB) beyond which Pillow refuses to open an image
MAX_RATIO = 200  # of a member over 1 MiB: JPEG, PNG, WebP don't shrink further; BMP of photographs shrinks to about a half
MAX_TOTAL_RATIO = 100  # of all members together, over 64 MiB
READ = {*EXTENSIONS, "cls", "json", "txt"}  # extensions of images, labels and lists; others may have any size
SMALL, SMALL_TOTAL = 2**20, 64 * 2**20


def refuse(archive: str, member: str, why: str) -> NoReturn:
    """Raise ValueError about a member."""
    raise ValueError(f"{archive}: member {member!r} {why}; the archive is not used")


def check_name(archive: str, member: str) -> None:
    """Raise ValueError unless the name is relative and stays below its folder on any system."""
    posix = member.replace("\\", "/")
    if not posix or posix.startswith("/") or ".." in posix.split("/") or re.match("[A-Za-z]:", posix) or "\0" in posix:
        refuse(archive, member, "must have a relative name without `..`")


def check_size(archive: str, member: str, size: int, packed: int) -> None:
    """Raise ValueError for a negative size, and if the member may be read, for one too large for an image or extremely packed."""
    if size >= 0 and not is_read(member):
        return
    if not 0 <= size <= MAX_BYTES:
        refuse(archive, member, f"must have at most {MAX_BYTES:,} bytes, got {size:,}")
    if size > SMALL and size > MAX_RATIO * packed:
        refuse(archive, member, f"must expand at most {MAX_RATIO} times, got {packed:,} to {size:,} bytes")


def is_read(member: str) -> bool:
    """Return True if a member of this name may be read."""
    return member.rpartition(".")[2].lower() in READ


def check_total(archive: str, largest: str, size: int, packed: int) -> None:
    """Raise ValueError, naming `largest`, if all members that may be read are together far larger than the archive."""
    if size > SMALL_TOTAL and size > MAX_TOTAL_RATIO * packed:
        refuse(
            archive, largest, f"is the largest of {size:,} bytes in {packed:,}, and at most {MAX_TOTAL_RATIO} times is allowed"
        )


class Stamp(NamedTuple):
    """File attributes that reveal whether a file has been replaced since it was listed."""

    size: int
    changed: int  # time of the last change, in ns

    @classmethod
    def of(cls, file: BinaryIO) -> "Stamp":
        """Return the stamp of an open file."""
        stat = os.fstat(file.fileno())
        return cls(stat.st_size, stat.st_mtime_ns)


def check_stamp(path: Path, file: BinaryIO, stamp: Stamp) -> None:
    """Raise ValueError if `path`, opened as `file`, has been replaced since it was listed."""
    if Stamp.of(file) != stamp:
        raise ValueError(f"{path} has changed since it was listed: run the stage again")
