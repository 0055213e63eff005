"""A real S3 server on loopback (moto's), and a proxy before it that makes faults."""

import re
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import fsspec
import pytest

KEY, SECRET = "AKIATESTTESTTESTTEST", "a+secret/of+the/test+that+must+be+nowhere"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",  # else whoever has no credentials asks the network for some
    "AWS_CONFIG_FILE": "/nowhere/config",
    "AWS_SHARED_CREDENTIALS_FILE": "/nowhere/credentials",
    "NO_PROXY": "127.0.0.1",
}


@contextmanager
def moto() -> Iterator[int]:
    """The port of a server with the bucket `shards`, which the environment names."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(
        [sys.executable, "-c", "from moto.server import main; main()", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("AWS_PROFILE", raising=False)
            patch.delenv("AWS_SESSION_TOKEN", raising=False)
            for name, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL": address}.items():
                patch.setenv(name, value)
            for _ in range(300):
                try:
                    urllib.request.urlopen(address, timeout=1).close()
                    break
                except (urllib.error.URLError, OSError):
                    assert server.poll() is None
                    time.sleep(0.1)
            fsspec.filesystem("s3", skip_instance_cache=True).mkdir("shards")
            yield port
    finally:
        server.terminate()
        server.wait()


class Faulty(ThreadingHTTPServer):
    """Passes requests on to `port`, but for `times` GETs of a path that contains `match`: those meet `fault`.

    forbidden, error, slow_down: 403, 500, 503; reset: no answer; cut: half an object, then the end; truncated: half an
    object as if that were all of it; altered: with another last byte; stalled: half an object, then nothing;
    slow: piece by piece.
    """

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = port
        self.fault, self.match, self.times = "", "", 0
        self.met: list[str] = []  # paths that met the fault
        self.bytes_sent = 0  # of objects
        self.given_up = threading.Event()
        self.guard = threading.Lock()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def inject(self, fault: str, match: str = "", times: int = 10**9) -> None:
        self.fault, self.match, self.times = fault, match, times
        self.met.clear()

    def fault_of(self, command: str, path: str) -> str:
        with self.guard:
            if command != "GET" or not self.fault or self.match not in path or len(self.met) >= self.times:
                return ""
            self.met.append(path)
            return self.fault

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Of clients that have gone away."""


class _Handler(BaseHTTPRequestHandler):
    server: Faulty
    protocol_version = "HTTP/1.1"

    def pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.server.fault_of(self.command, self.path)
        if fault in REFUSALS:
            return self.refuse(*REFUSALS[fault])
        if fault == "reset":
            return self.hang_up()
        upstream = HTTPConnection("127.0.0.1", self.server.upstream)
        upstream.request(self.command, self.path, body, dict(self.headers))
        answer = upstream.getresponse()
        content = answer.read()
        upstream.close()
        if fault == "truncated":
            content = content[: len(content) // 2]
        elif fault == "altered":
            content = content[:-1] + bytes([content[-1] ^ 1])
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if not re.match(DROPPED + "|x-amz-checksum" * (fault in ("truncated", "altered")), name, re.IGNORECASE):
                self.send_header(name, value)
        declared = answer.getheader("Content-Length", "0") if self.command == "HEAD" else str(len(content))
        self.send_header("Content-Length", declared)
        self.end_headers()
        if fault == "slow":
            for start in range(0, len(content), -(-len(content) // 8)):
                self.wfile.write(content[start : start + -(-len(content) // 8)])
                time.sleep(0.5)
        elif fault in ("cut", "stalled"):
            self.wfile.write(content[: len(content) // 2])
            if fault == "stalled":
                self.server.given_up.wait(60)
            self.hang_up()
        else:
            self.wfile.write(content)
        if self.command == "GET":
            self.server.bytes_sent += len(content)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = pass_on  # noqa: N815 - http.server's names

    def refuse(self, status: int, code: str) -> None:
        content = f"<Error><Code>{code}</Code><Message>{code}, said the test</Message></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def hang_up(self) -> None:
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass


DROPPED = "content-length|transfer-encoding|connection|server|date"  # made anew
REFUSALS = {"forbidden": (403, "AccessDenied"), "error": (500, "InternalError"), "slow_down": (503, "SlowDown")}


@contextmanager
def faulty(port: int) -> Iterator[Faulty]:
    """A proxy before the server at `port`, which the environment names."""
    proxy = Faulty(port)
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ENDPOINT_URL", proxy.address)
            forget()
            yield proxy
    finally:
        forget()
        proxy.given_up.set()
        proxy.shutdown()
        thread.join()
        proxy.server_close()


def forget() -> None:
    """fsspec keeps its connection of before, whatever the environment says now."""
    fsspec.filesystem("s3").clear_instance_cache()
