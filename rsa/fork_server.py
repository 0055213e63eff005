"""Start commands as forks of one process that has loaded the libraries they need, which takes a new process seconds.

    python -m rsa.fork_server LISTENING MODULE...     waits for commands to start, until its standard input ends

A process hands its command, `python -m MODULE`, over to it (rsa.hand_over). For each a keeper is forked, which forks the
command with the arguments, environment and files of that process, passes on its signals and tells it the exit code. If one of
the three is killed, so are the other two. A fork imports this project's modules itself, so that it has today's code. The keeper
declines, and the command starts plainly, where libraries would differ in a new process: where one of their files has changed
since they were loaded, or a variable that they read while they load is another one.
"""

import atexit
import contextlib
import gc
import json
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from importlib import import_module
from typing import Any, NamedTuple

from rsa.hand_over import PASSED_ON, PLACE, SIZE, TAKEN
from rsa.processes import end_with_parent, show_as

READ_WHILE_LOADING = (
    *("ATEN_", "DALI_", "GOMP_", "KMP_", "LD_", "MKL_", "OMP_", "ONEDNN_", "OPENBLAS_"),
    *("PYTHON", "PYTORCH", "TORCH"),
)  # beginnings of names
OURS = ("pipeline", "engines", "rsa", "__mp_main__")  # packages that each fork imports itself


class Start(NamedTuple):
    """The time and the environment with which a server started."""

    time_ns: int
    environ: dict[str, str]


def start(modules: Iterable[str]) -> dict[str, str]:
    """Start a server that loads what modules import and ends with this process; return the variable that names its socket."""
    folder = tempfile.mkdtemp(prefix="forks-")
    place = f"{folder}/socket"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(place)
        listening.listen(128)  # commands that come while libraries are loaded wait here
        command = [sys.executable, "-m", "rsa.fork_server", str(listening.fileno()), *sorted(modules)]
        quiet = subprocess.DEVNULL  # a module that fails says so when its command starts plainly
        server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, pass_fds=[listening.fileno()])
    atexit.register(_stop, server, folder)
    return {PLACE: place}


def _stop(server: subprocess.Popen[bytes], folder: str) -> None:
    server.communicate()  # ends its standard input
    shutil.rmtree(folder)


def serve(listening: socket.socket, modules: list[str]) -> tuple[dict[str, Any], Start] | None:
    """Fork keepers until standard input ends, and return None; in a command's fork, return its request."""
    started = Start(time.time_ns(), dict(os.environ))
    for number in PASSED_ON:
        signal.signal(number, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; commands are told by their own
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that no keeper has to be waited for
    with listening:
        for module in modules:
            import_module(module)
        for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
            del sys.modules[name]
        gc.collect()
        gc.freeze()  # forks share this memory: without it their ends would copy it to collect it
        while sys.stdin not in select.select([listening, sys.stdin], [], [])[0]:
            client, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                return _keep(client, started), started
            client.close()
    return None


def _keep(client: socket.socket, started: Start) -> dict[str, Any]:
    """Fork the command that a client asks for, and end with it; in that fork, return the request."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    head, files, _, _ = socket.recv_fds(client, SIZE.size, 3)
    request: dict[str, Any] = json.loads(client.recv(SIZE.unpack(head)[0], socket.MSG_WAITALL))
    if not _like_new(request, started):
        os._exit(0)
    command = os.fork()
    if command == 0:
        client.close()
        end_with_parent()
        for number, file in enumerate(files):
            os.dup2(file, number)
        os.closerange(min(files), max(files) + 1)
        return request
    client.sendall(TAKEN)
    for file in files:
        os.close(file)
    ended = os.pidfd_open(command)
    while ended not in select.select([client.fileno(), ended], [], [])[0]:
        for number in client.recv(64) or [signal.SIGKILL]:  # nothing: the client was killed
            os.kill(command, number)
    code = os.waitstatus_to_exitcode(os.waitpid(command, 0)[1])
    with contextlib.suppress(OSError):
        client.sendall(str(code).encode())
    os._exit(0)


def _like_new(request: dict[str, Any], started: Start) -> bool:
    """Return whether a new process would load the same libraries in the same way."""
    files = [file for module in [*sys.modules.values()] if os.path.isabs(file := getattr(module, "__file__", None) or "")]
    try:
        newest = max(max(status.st_mtime_ns, status.st_ctime_ns) for status in map(os.stat, files))
    except OSError:
        return False
    given = dict(request["environ"].items() - _set_by_libraries(started))  # a fork's own commands get those, too
    same_environ = _read_while_loading(given) == _read_while_loading(started.environ)
    return newest < started.time_ns and same_environ and request["cwd"] == os.getcwd()


def _set_by_libraries(started: Start) -> set[tuple[str, str]]:
    return os.environ.items() - started.environ.items()


def _read_while_loading(environ: dict[str, str]) -> dict[str, str]:
    """Leave out numbers of threads, which Snakemake sets for each job: a stage sets its own, by `runtime.threads`."""
    read = (name for name in environ if name.startswith(READ_WHILE_LOADING))
    return {name: environ[name] for name in read if not name.endswith("_NUM_THREADS")}


def _run(request: dict[str, Any], started: Start) -> None:
    """Run the command as `python -m` would."""
    environ = dict(_set_by_libraries(started)) | request["environ"]
    os.environ.clear()
    os.environ.update(environ)
    sys.orig_argv = request["argv"]
    module, sys.argv = request["argv"][2], request["argv"][2:]
    show_as(module.rpartition(".")[2])
    sys.stdout.reconfigure(line_buffering=os.isatty(1))  # type: ignore[union-attr]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    if (asked := serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2:])) is not None:
        _run(*asked)
