"""File locks between processes, which a kill frees; where a shared file system has locks, they hold between its nodes, too.

DVC's own locks are of the same kind (flock), so what holds here for a folder holds for them.
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
    """Lock the file, creating it if needed, and return an open descriptor; closing that frees the lock.

    Without `wait`, return None if another process holds the lock. Raises ValueError if the file system has no locks. The file
    is opened for writing, as NFS demands, and is never removed: a removed file could be locked twice.
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
    """Hold a lock on the file. If another process holds it, raise BusyError(`busy`), or wait for it if `busy` is None."""
    handle = lock(path, wait=busy is None)
    if handle is None:
        raise BusyError(busy)
    try:
        yield
    finally:
        os.close(handle)


def unsafe(folder: Path, *, shared: bool) -> str:
    """Return why locks in `folder` do not keep processes apart (if `shared`, also those of several nodes), or an empty text."""
    probe = folder / ".work" / "locks" / "probe"
    try:
        with held(probe, "busy"):
            code = f"import fcntl; fcntl.flock(open({str(probe)!r}, 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
            if subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0:
                return f"two processes held one lock at once in {folder.resolve()}: {WHAT_TO_SET}"
    except BusyError:  # another process is trying it just now: the lock works
        pass
    except ValueError as why:
        return str(why)
    kind, options = mount(folder)
    local = [option for option in options if re.fullmatch(LOCAL_OPTIONS.get(kind, r"(?!)"), option)]
    if shared and local:
        return f"{folder.resolve()} is on {kind} mounted with {local[0]}, whose locks other nodes do not see: {WHAT_TO_SET}"
    return ""


def mount(folder: Path) -> tuple[str, list[str]]:
    """Return the type of the file system that a folder is on, and the options of its mount."""
    result: tuple[str, list[str]] = ("unknown", [])
    longest = -1
    for line in MOUNTS.read_text().splitlines():
        before, _, after = line.partition(" - ")
        point = re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), before.split()[4])
        kind, _, *options = after.split()
        if folder.resolve().is_relative_to(point) and len(point) >= longest:  # of two at one place the later covers
            longest, result = len(point), (kind, [*before.split()[5].split(","), *",".join(options).split(",")])
    return result
