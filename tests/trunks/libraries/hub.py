"""A hub that gives nothing out, and what is said of it."""

import os
import re
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_ASK = """
import sys
from featcache.errors import FeatcacheError
from featcache.trunks.libraries.transformers_files import find_folder
for name in sys.argv[1:]:
    try:
        find_folder(name, with_weights=True)
    except FeatcacheError as error:
        print(f"{error} (exit {error.exit_code})")
"""


class Hub(BaseHTTPRequestHandler):
    """It keeps one network for those who accepted its terms, and has no other."""

    def do_HEAD(self) -> None:
        """Answer as the hub does."""
        is_gated = "/gated/" in self.path
        self.send_response(403 if is_gated else 404)
        self.send_header("X-Error-Code", "GatedRepo" if is_gated else "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD  # noqa: N815 (as http.server calls it)

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


def hub_answers() -> list[tuple[str, str, str]]:
    """Return what is said of networks that a hub does not give out: (network, input, message); another process asks."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as empty:
        hub = {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HUB_CACHE": empty, "HF_HUB_OFFLINE": "0"}
        command = [sys.executable, "-c", _ASK, "acme/gated", "acme/nothing"]
        answer = subprocess.run(command, env=os.environ | hub, capture_output=True, text=True, check=True)
    server.shutdown()
    server.server_close()
    gated, absent = answer.stdout.splitlines()
    return [
        ("transformers", "`--arch hf:acme/gated`, which is gated", mask_cache(gated)),
        ("transformers", "`--arch hf:acme/nothing`, which the hub does not have", mask_cache(absent)),
    ]


def mask_cache(text: str) -> str:
    """Return a message without the place of this machine's cache."""
    return re.sub(
        r"\(or copy the folder (\S+) of that machine's hub cache to [^)]*\)", r"(or copy the folder \1 …)", text
    )
