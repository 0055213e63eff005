"""Hand a stage over to a fork of pipeline.fork_server, which has loaded its libraries already, where FORK_SERVER names one."""

import json
import os
import signal
import socket
import struct
import sys

PLACE = "FORK_SERVER"  # the environment variable with the path of its socket
PASSED_ON = (signal.SIGTERM, signal.SIGINT)
SIZE = struct.Struct("!I")  # of a request in bytes, which goes before it with this process's files
TAKEN = b"taken"  # the answer of a keeper that runs the stage; its exit code follows when that has ended


def hand_over() -> None:
    """If there is a server, let it run the stage for which this process was started, and end as that does."""
    place = os.environ.pop(PLACE, "")
    if not place or sys.orig_argv[1] != "-m" or not sys.orig_argv[2].startswith("pipeline."):
        return
    with socket.socket(socket.AF_UNIX) as keeper:
        try:
            keeper.connect(place)
            request = {"argv": sys.orig_argv, "cwd": os.getcwd(), "environ": dict(os.environ)}
            message = json.dumps(request).encode()
            socket.send_fds(keeper, [SIZE.pack(len(message))], [0, 1, 2])
            keeper.sendall(message)
            if keeper.recv(len(TAKEN)) != TAKEN:
                return
        except OSError:  # the server has ended, or could not load a library: then a plain start says why
            return
        for number in PASSED_ON:
            signal.signal(number, lambda number, _: keeper.send(bytes([number])))
        try:
            code = int(keeper.recv(64))
        except (OSError, ValueError):  # the keeper was killed
            code = -signal.SIGKILL
    _end_like(code)


def _end_like(code: int) -> None:
    """End this process with an exit code, or by a signal where it is negative, as in `subprocess`."""
    if code < 0:
        if -code != signal.SIGKILL:  # which has no handler
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)
