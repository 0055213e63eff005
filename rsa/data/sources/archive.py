"""What an archive may hold to be read as a dataset, the same for zip and tar.

An archive is refused whole, naming the member, for a name that would leave the folder it is unpacked into, for a link or
device, and for absurd expansion. Nothing is unpacked here, but shards are, elsewhere.
"""

import os
import re
from pathlib import Path
from typing import BinaryIO, NamedTuple, NoReturn

MAX_BYTES = 512 * 2**20  # of a member: the pixels (2 * 89 million, RGB) beyond which Pillow refuses to open an image
MAX_RATIO = 200  # of a member over 1 MiB: JPEG, PNG, WebP don't shrink further; BMP of photographs shrinks to about a half
MAX_TOTAL_RATIO = 100  # of all members together, over 64 MiB
SMALL, SMALL_TOTAL = 2**20, 64 * 2**20


def refuse(archive: str, member: str, why: str) -> NoReturn:
    """ValueError about a member."""
    raise ValueError(f"{archive}: member {member!r} {why}; the archive is not used")


def check_name(archive: str, member: str) -> None:
    """ValueError unless the name is relative and stays below the folder it is relative to, on any system."""
    posix = member.replace("\\", "/")
    if not posix or posix.startswith("/") or ".." in posix.split("/") or re.match("[A-Za-z]:", posix) or "\0" in posix:
        refuse(archive, member, "must have a relative name without `..`")


def check_size(archive: str, member: str, size: int, packed: int) -> None:
    """ValueError for a member that is negative, too large for an image, or far larger than it is packed."""
    if not 0 <= size <= MAX_BYTES:
        refuse(archive, member, f"must have at most {MAX_BYTES:,} bytes, got {size:,}")
    if size > SMALL and size > MAX_RATIO * packed:
        refuse(archive, member, f"must expand at most {MAX_RATIO} times, got {packed:,} to {size:,} bytes")


def check_total(archive: str, largest: str, size: int, packed: int) -> None:
    """ValueError if all members together are far larger than the archive; `largest` is named."""
    if size > SMALL_TOTAL and size > MAX_TOTAL_RATIO * packed:
        refuse(
            archive, largest, f"is the largest of {size:,} bytes in {packed:,}, and at most {MAX_TOTAL_RATIO} times is allowed"
        )


class Stamp(NamedTuple):
    """What tells a file from one that has taken its place since it was listed."""

    size: int
    changed: int

    @classmethod
    def of(cls, file: BinaryIO) -> "Stamp":
        """The stamp of an open file."""
        stat = os.fstat(file.fileno())
        return cls(stat.st_size, stat.st_mtime_ns)


def check_stamp(path: Path, file: BinaryIO, stamp: Stamp) -> None:
    """ValueError if `path`, opened as `file`, isn't what was listed."""
    if Stamp.of(file) != stamp:
        raise ValueError(f"{path} has changed since it was listed: run the stage again")
