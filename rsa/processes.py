"""These functions tell the kernel of a process when it is to end, which signals it ignores, and its name."""

import ctypes
import multiprocessing
import os
import signal

PR_SET_PDEATHSIG, PR_SET_NAME = 1, 15  # of Linux's prctl


def end_with_parent() -> None:
    """Let the kernel kill this process when the thread that started it ends, be it by kill -9.

    Otherwise a worker would wait for work for ever, with its memory and with the locks that a fork has inherited.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    parent = multiprocessing.parent_process()
    if parent is not None and os.getppid() != parent.pid:  # it ended before
        os._exit(1)


def show_as(name: str) -> None:
    """Give this process the name that `ps` and `top` show, of 15 characters at most: a fork has that of its parent."""
    ctypes.CDLL(None).prctl(PR_SET_NAME, name.encode())


def start_worker() -> None:
    """Prepare a worker of a pool: it ends with its parent, to which it leaves SIGTERM and Ctrl-C, sent to a whole group.

    A handler that raises in the middle of a run of DALI's pipeline would leave it an image behind, and every image after that
    would get the pixels of the one before.
    """
    end_with_parent()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
