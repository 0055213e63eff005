"""Locks on files: they hold between processes, a kill frees them, and between nodes where the shared file system has locks.

DVC's own locks are of the same kind (flock), so that what is said here of a folder is true of them too.
"""

import contextlib
import fcntl
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
WHAT_TO_SET = "mount it with locks (docs/cluster.md, Shared file system) or work elsewhere"
LOCAL_OPTIONS = {  # of a mount: its locks are not seen by other nodes
    "nfs": r"nolock|local_lock=(all|flock|posix)",
    "nfs4": r"local_lock=(all|flock|posix)",
    "lustre": r"localflock|noflock",
    "cifs": r"nobrl",
    "smb3": r"nobrl",
    "fuse.sshfs": r".*",
    "fuse.s3fs": r".*",
    "fuse.rclone": r".*",
    "fuse.gcsfuse": r".*",
    "fuse.mount-s3": r".*",
}


class BusyError(ValueError):
    """Another process holds the lock."""


def lock(path: Path, *, wait: bool) -> int | None:
    """Lock the file, made if needed: the open handle, whose close frees it; without `wait`, None where another process has it.

    ValueError where locks do not work. The file is opened for writing, as NFS demands, and stays: one that is removed could
    be locked twice.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as why:
        os.close(handle)
        if isinstance(why, BlockingIOError):
            return None
        raise ValueError(f"{path.parent} is on a file system without locks ({why.strerror}): {WHAT_TO_SET}") from None
    return handle


@contextlib.contextmanager
def held(path: Path, busy: str | None = None) -> Iterator[None]:
    """Hold a lock on the file. Where another process has it: BusyError(`busy`), or wait for it if there is nothing to say."""
    handle = lock(path, wait=busy is None)
    if handle is None:
        raise BusyError(busy)
    try:
        yield
    finally:
        os.close(handle)


def unsafe(folder: Path, *, shared: bool) -> str:
    """Why locks in `folder` do not keep processes apart (of several nodes too if `shared`); empty where they do."""
    probe = folder / ".work" / "locks" / "probe"
    try:
        with held(probe, "busy"):
            code = f"import fcntl; fcntl.flock(open({str(probe)!r}, 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
            if subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0:
                return f"two processes held one lock at once in {folder.resolve()}: {WHAT_TO_SET}"
    except BusyError:  # someone else asks just now: a lock that works
        pass
    except ValueError as why:
        return str(why)
    kind, options = mount(folder)
    local = [option for option in options if re.fullmatch(LOCAL_OPTIONS.get(kind, r"(?!)"), option)]
    if shared and local:
        return f"{folder.resolve()} is on {kind} mounted with {local[0]}, whose locks other nodes do not see: {WHAT_TO_SET}"
    return ""


def mount(folder: Path) -> tuple[str, list[str]]:
    """The kind of file system that a folder is on, and its mount's options."""
    result: tuple[str, list[str]] = ("unknown", [])
    longest = -1
    for line in MOUNTS.read_text().splitlines():
        before, _, after = line.partition(" - ")
        point = re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), before.split()[4])
        kind, _, *options = after.split()
        if folder.resolve().is_relative_to(point) and len(point) >= longest:  # of two at one place the later covers
            longest, result = len(point), (kind, [*before.split()[5].split(","), *",".join(options).split(",")])
    return result
