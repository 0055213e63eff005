"""Hand a stage over to a fork of pipeline.fork_server, which has loaded its modules already, where FORK_SERVER names one."""

import json
import os
import signal
import socket
import struct
import sys

PLACE = "FORK_SERVER"  # the environment variable with the path of its socket
PASSED_ON = (signal.SIGTERM, signal.SIGINT)
SIZE = struct.Struct("!I")  # of a request in bytes, which goes before it with this process's files
DECLINED = b"declined"


def hand_over() -> None:
    """If there is a server, let it run the stage for which this process was started, and end as that does."""
    place = os.environ.pop(PLACE, "")
    if not place or sys.orig_argv[1] != "-m" or not sys.orig_argv[2].startswith("pipeline."):
        return
    handlers = {number: signal.getsignal(number) for number in PASSED_ON}
    with socket.socket(socket.AF_UNIX) as keeper:
        try:
            keeper.connect(place)
            request = {"argv": sys.orig_argv, "cwd": os.getcwd(), "environ": dict(os.environ)}
            message = json.dumps(request).encode()
            socket.send_fds(keeper, [SIZE.pack(len(message))], [0, 1, 2])
            keeper.sendall(message)
        except OSError:  # the server has ended, or could not load a module: then a plain start says why
            return
        for number in PASSED_ON:
            signal.signal(number, lambda number, _: keeper.send(bytes([number])))
        answer = keeper.recv(64)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if answer != DECLINED:
        _end_like(int(answer or -signal.SIGKILL))  # no answer: the keeper was killed


def _end_like(code: int) -> None:
    """End this process with an exit code, or by a signal where it is negative, as in `subprocess`."""
    if code < 0:
        if -code != signal.SIGKILL:  # which has no handler
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)
