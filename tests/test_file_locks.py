"""File locks: one at a time, freed by a kill, and file systems without them are named with what to do."""

import errno
import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from rsa import file_locks
from rsa.file_locks import BusyError, held, mount, unsafe
from tests.engines.imports import ROOT

HOLDER = """
import pathlib, sys, time
from rsa.file_locks import held
with held(pathlib.Path(sys.argv[1]), "busy"):
    print("held", flush=True)
    time.sleep(60)
"""
LINE = "36 35 0:41 / {point} rw,relatime shared:1 - {kind} server:/export {options}"


def test_one_process_at_a_time_and_a_kill_frees_it(tmp_path: Path):
    lock = tmp_path / "locks" / "one"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(lock)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(BusyError, match="someone has it"), held(lock, "someone has it"):
        pass
    with held(tmp_path / "locks" / "other", ""):
        pass
    killed = []
    threading.Timer(0.2, lambda: killed.append(True) or holder.kill()).start()
    with held(lock):  # waits for it
        assert killed
    holder.communicate()
    with held(lock, ""):
        pass


def test_the_file_is_open_for_writing_as_nfs_demands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """An NFS client answers flock(LOCK_EX) on what is open for reading with EBADF."""

    def flock(handle: int, operation: int) -> None:
        assert fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR

    monkeypatch.setattr(fcntl, "flock", flock)
    with held(tmp_path / "lock", ""):
        pass


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_named_with_what_to_do(code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def flock(handle: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    assert "is on a file system without locks" in unsafe(tmp_path, shared=False)
    with pytest.raises(ValueError, match=r"without locks .*: mount it with locks \(docs/cluster.md"), held(tmp_path / "lock", ""):
        pass


def test_locks_that_lock_nobody_out_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fcntl, "flock", lambda handle, operation: None)  # of this process: the other one gets it too
    assert unsafe(tmp_path, shared=False).startswith(f"two processes held one lock at once in {tmp_path}")


@pytest.mark.parametrize(
    ("kind", "options", "found"),
    [
        ("nfs4", "rw,vers=4.2,local_lock=none", ""),
        ("nfs", "rw,vers=3,nolock,local_lock=all", "nfs mounted with nolock"),
        ("nfs", "rw,vers=3,local_lock=flock", "nfs mounted with local_lock=flock"),
        ("lustre", "rw,flock", ""),
        ("lustre", "rw,localflock", "lustre mounted with localflock"),
        ("fuse.sshfs", "rw,user_id=0", "fuse.sshfs mounted with rw"),
        ("ext4", "rw", ""),
    ],
)
def test_a_mount_whose_locks_stay_on_one_node(
    kind: str, options: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    mounts = tmp_path / "mountinfo"
    lines = [LINE.format(point=point, kind=other, options="rw") for point, other in (("/", "ext4"), (tmp_path.parent, "xfs"))]
    lines.append(LINE.format(point=tmp_path, kind=kind, options=options))
    lines.append(LINE.format(point=tmp_path / "below", kind="tmpfs", options="rw"))
    mounts.write_text("\n".join(lines))
    monkeypatch.setattr(file_locks, "MOUNTS", mounts)
    assert mount(tmp_path)[0] == kind
    assert unsafe(tmp_path, shared=False) == ""
    if found:
        assert f"{tmp_path} is on {found}, whose locks other nodes do not see" in unsafe(tmp_path, shared=True)
    else:
        assert unsafe(tmp_path, shared=True) == ""
