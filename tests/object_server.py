"""An S3-compatible server on loopback for the tests, and a proxy before it that does what networks and servers do.

The server is moto's, in a process of its own: one a test session. The proxy hands each request on, unless a fault says
otherwise, and remembers what it was asked.
"""

import http.client
import os
import re
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY_ID, SECRET = "AKIAOFTESTSALONE2026", "verySecretKeyOfTestsAlone/2026+x"
_SERVE = """
import sys

from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


@contextmanager
def object_server() -> Iterator[str]:
    """Run a server; yield its address, `http://127.0.0.1:PORT`. It ends when the block does, or this process."""
    command = [sys.executable, "-c", _SERVE]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        try:
            yield f"http://127.0.0.1:{int(server.stdout.readline())}"
        finally:
            server.stdin.close()
            server.terminate()


def make_bucket(endpoint: str) -> str:
    """Return the name of a new bucket."""
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{name}", method="PUT"), timeout=30).close()
    return name


def environment(endpoint: str) -> dict[str, str]:
    """Return the variables under which the tools of AWS talk to a server."""
    return {
        "AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
    }  # fmt: skip


@dataclass(slots=True)
class Fault:
    """What is done to the next requests of a method whose path fits.

    Attributes:
        method: "PUT", "GET", …
        path: A pattern that the path and query must hold.
        kind: "lost" (not handed on), "unanswered" (handed on, and the answer thrown away), "twice" (handed on twice),
            "torn" (half of the answer's body), or a status with the code of an XML body, such as "503 SlowDown".
        times: How many requests.
    """

    method: str
    path: str
    kind: str
    times: int = 1


@dataclass
class Proxy:
    """A proxy before a server; `faults` may be added to at any time."""

    upstream: str
    faults: list[Fault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)  # "PUT /bucket/key?query"
    change_answer: Callable[[str, bytes], bytes] = lambda _request, body: body  # of GET requests
    without_headers: tuple[str, ...] = ()  # that are not handed on: of a server that ignores them
    lock: threading.Lock = field(default_factory=threading.Lock)
    address: str = ""

    def take_fault(self, method: str, path: str) -> str:
        """Return the kind of the first fault that a request fits, and count it; "" where none does."""
        with self.lock:
            self.requests.append(f"{method} {path}")
            for fault in self.faults:
                if fault.times and fault.method == method and re.search(fault.path, path):
                    fault.times -= 1
                    return fault.kind
        return ""


@contextmanager
def proxy_before(upstream: str) -> Iterator[Proxy]:
    """Run a proxy before a server."""
    proxy = Proxy(upstream)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fault = proxy.take_fault(self.command, self.path)
            if fault == "lost":
                self.close_connection = True
                return
            if fault[:3].isdecimal():
                status, code = fault.split(" ")
                quoted = f"<Error><Code>{code}</Code><AWSAccessKeyId>{KEY_ID} {SECRET}</AWSAccessKeyId></Error>"
                self.answer(int(status), [], quoted.encode())
                return
            status, headers, answer = self.hand_on(body)
            if fault == "twice":
                status, headers, answer = self.hand_on(body)
            if fault == "unanswered":
                self.close_connection = True
                return
            if self.command == "GET" and status < 300:
                answer = proxy.change_answer(f"{self.command} {self.path}", answer)
            self.answer(status, headers, answer, torn=fault == "torn")

        def hand_on(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            connection = http.client.HTTPConnection(proxy.upstream.removeprefix("http://"), timeout=60)
            headers = {name: value for name, value in self.headers.items() if name not in proxy.without_headers}
            connection.request(self.command, self.path, body=body, headers=headers)
            response = connection.getresponse()
            answer = response.read()
            connection.close()
            return response.status, response.getheaders(), answer

        def answer(self, status: int, headers: list[tuple[str, str]], body: bytes, *, torn: bool = False) -> None:
            self.send_response(status)
            sizes = [value for name, value in headers if name.lower() == "content-length"]
            for name, value in headers:
                if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                    self.send_header(name, value)
            is_head = self.command == "HEAD"
            self.send_header("Content-Length", sizes[0] if is_head and sizes else str(len(body)))
            self.end_headers()
            if not is_head:
                self.wfile.write(body[: len(body) // 2] if torn else body)
            if torn:
                self.close_connection = True

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = handle_any  # noqa: N815 (http.server's names)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Say nothing of connections that the client has closed."""

    with Server(("127.0.0.1", 0), Handler) as server:
        proxy.address = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield proxy
        finally:
            server.shutdown()


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait until a condition holds; fail where it does not within so many seconds."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come to pass"
        time.sleep(0.05)


def use_endpoint(endpoint: str, set_variable: Callable[[str, str], None]) -> None:
    """Let this process talk to a server, and to no other that it talked to before."""
    from featcache.files.objects import bucket

    for name, value in environment(endpoint).items():
        set_variable(name, value)
    bucket._BUCKETS.clear()
    assert "AWS_PROFILE" not in os.environ
