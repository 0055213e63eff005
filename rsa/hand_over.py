"""Hand a command over to a fork of rsa.fork_server, which has loaded its libraries already."""

import json
import os
import signal
import socket
import struct

PLACE = "FORK_SERVER"  # the environment variable with the path of the server's socket
PASSED_ON = (signal.SIGTERM, signal.SIGINT)
SIZE = struct.Struct("!I")  # of a request in bytes, which goes before it with this process's files
TAKEN = b"taken"  # the answer of a keeper that runs the command; its exit code follows when that has ended


def hand_over(command: list[str], place: str) -> None:
    """Let the server at `place` run `python -m MODULE ARGUMENT...` in place of this process, and end as that does.

    Return where it cannot, and for any other command.
    """
    if command[1] != "-m":
        return
    with socket.socket(socket.AF_UNIX) as keeper:
        signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)  # they wait until it is known who gets them
        try:
            if not _taken(keeper, command, place):
                return
            for number in PASSED_ON:
                signal.signal(number, lambda number, _: keeper.send(bytes([number])))
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
        try:
            code = int(keeper.recv(64))
        except (OSError, ValueError):  # the keeper was killed
            code = -signal.SIGKILL
    _end_like(code)


def _taken(keeper: socket.socket, command: list[str], place: str) -> bool:
    """Ask for a keeper and return whether it runs the command."""
    request = {"argv": command, "cwd": os.getcwd(), "environ": dict(os.environ)}
    message = json.dumps(request).encode()
    try:
        keeper.connect(place)
        socket.send_fds(keeper, [SIZE.pack(len(message))], [0, 1, 2])
        keeper.sendall(message)
        return keeper.recv(len(TAKEN)) == TAKEN
    except OSError:  # the server has ended, or could not load a library: then a plain start says why
        return False


def _end_like(code: int) -> None:
    """End this process with an exit code, or by a signal where it is negative, as in `subprocess`."""
    if code < 0:
        if -code != signal.SIGKILL:  # which has no handler
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)
