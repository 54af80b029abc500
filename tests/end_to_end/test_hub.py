"""Data sets of the Hugging Face Hub, by a server on this machine that answers as the Hub does."""

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import featcache
from tests.conftest import ARCH, Nano, Ran
from tests.packed import as_parquet

TOKEN = "hf_0123456789secret"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(http.server.ThreadingHTTPServer):
    """The data set OWNER/digits with the files of a folder, and no other."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        self.files = {str(path.relative_to(folder)): path.read_bytes() for path in files}
        self.asked: list[str] = []
        self.ranges: list[str] = []  # of requests for files

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append(f"{self.command} {path}")
        name = path.removeprefix(f"/datasets/OWNER/digits/resolve/{COMMIT}/")
        if path == "/api/datasets/OWNER/digits" or path.startswith("/api/datasets/OWNER/digits/revision/"):
            self.answer(json.dumps({"id": "OWNER/digits", "sha": COMMIT, "siblings": []}).encode())
        elif path.startswith(f"/api/datasets/OWNER/digits/tree/{COMMIT}"):
            entries = [
                {"type": "file", "path": path, "size": len(data), "oid": f"{number:040x}"}
                for number, (path, data) in enumerate(self.server.files.items())
            ]
            self.answer(json.dumps(entries).encode())
        else:
            self.answer(self.server.files.get(name), self.headers.get("Range", ""))

    def answer(self, data: bytes | None, wanted: str = "") -> None:
        self.send_response(404 if data is None else 206 if wanted else 200)
        if data is None:
            self.send_header("X-Error-Code", "RepoNotFound")
        body = data or b""
        if wanted:
            self.server.ranges.append(wanted)
            first, last = map(int, wanted.removeprefix("bytes=").split("-"))
            body = body[first : last + 1]
        for key, value in (("ETag", f'"{hash(body) & 0xFFFFFFFF:x}"'), ("X-Repo-Commit", COMMIT)):
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(folder: Path, tmp_path: Path) -> Iterator[Hub]:
    server = Hub(as_parquet(folder, tmp_path / "repository"))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_data_set_of_the_hub_is_fetched_once(hub: Hub, nano: Nano, tmp_path: Path, run: Callable[..., Ran]) -> None:
    """Its Parquet files are fetched into Hugging Face's cache, then no network is needed; no token is written down."""
    where = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": TOKEN}
    cache = tmp_path / "cache"
    words = ("extract", "hf://OWNER/digits", "--cache", str(cache), *nano.flags)
    first = run(*words, **where)
    assert first.code == 0, first.err
    assert "digits/train: 28 images: 28 embedded" in first.out
    assert sum(line.startswith("GET /datasets/") for line in hub.asked) == 3
    again = run(*words, **where, HF_HUB_OFFLINE="1")
    assert again.code == 0, again.err
    assert "digits/train: 28 images: 0 embedded, 28 reused" in again.out
    assert not any(TOKEN.encode() in path.read_bytes() for path in cache.rglob("*") if path.is_file())
    other = run("data", "hf://OWNER/other", **where)
    assert other.code == 4
    assert "hf://OWNER/other: the Hub has no such data set, or it wants a token (HF_TOKEN)" in other.err
    assert TOKEN not in first.out + first.err + again.out + again.err + other.err


def test_a_data_set_of_the_hub_is_read_where_it_is(
    hub: Hub, nano: Nano, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ranges of its files alone are asked for, no file is copied here, and the second run embeds nothing."""
    for name, value in {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_TOKEN": TOKEN}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)  # read when it was imported, as the next
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    trunk = {"arch": ARCH, "weights": str(nano.weights), "precision": "fp32", "cache": tmp_path / "cache"}
    settings, place = featcache.Settings(device="cpu", workers=1), "hf://datasets/OWNER/digits"
    parts = featcache.extract(data=place, settings=settings, **trunk)
    assert [(part.data_set, part.split, part.embedded) for part in parts] == [
        ("digits", "train", 28), ("digits", "val", 11), ("digits", "test", 12),
    ]  # fmt: skip
    assert len(hub.ranges) == sum(line.startswith("GET /datasets/") for line in hub.asked) > 0
    again = featcache.extract(data=place, settings=settings, **trunk)
    assert [(part.embedded, part.reused) for part in again] == [(0, 28), (0, 11), (0, 12)]
    named = {"name": "part", "settings": settings, **trunk}
    (part,) = featcache.extract(data=f"{place}/data/val-*.parquet", **named)
    assert (part.split, part.embedded, part.reused) == ("val", 0, 11)
    assert not list(tmp_path.glob("hf/**/*.parquet"))
    assert not any(TOKEN.encode() in path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file())
    with pytest.raises(featcache.DataError, match=r"the Hub has no such data set, or it wants a token \(HF_TOKEN\)"):
        featcache.extract(data="hf://datasets/OWNER/other", settings=settings, **trunk)
