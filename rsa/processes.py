"""Processes that do not outlive the one that started them."""

import ctypes
import multiprocessing
import os
import signal

PR_SET_PDEATHSIG = 1  # of Linux's prctl


def end_with_parent() -> None:
    """Let the kernel kill this process when the thread that started it ends, be it by kill -9.

    Otherwise a worker would wait for work for ever, with its memory and with the locks that a fork has inherited.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    parent = multiprocessing.parent_process()
    if parent is not None and os.getppid() != parent.pid:  # it ended before
        os._exit(1)
