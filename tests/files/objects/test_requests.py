"""What an object store is asked for, and how often."""

from collections.abc import Iterator
from typing import Any

import pytest

from featcache.errors import MachineError
from featcache.files import StatLog
from featcache.files.objects import bucket
from featcache.files.objects.bucket import Bucket, open_bucket
from featcache.files.objects.object_path import ObjectPath

DIGEST = bytes(range(32))


class TornListing:
    """A client whose listings break off behind each page, before they give all."""

    def __init__(self, client: Any) -> None:
        self.client, self.pages = client, 0

    def list(self, prefix: str | None, **options: Any) -> Iterator[Any]:
        for page in self.client.list(prefix, **options):
            self.pages += 1
            yield page
            raise OSError("connection reset")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)


def test_a_listing_comes_in_pages_and_goes_on_where_it_broke_off(
    memory: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every name comes once, in order, however often the connection is torn; no more than a page is held."""
    monkeypatch.setattr(bucket, "_PAGE", 4)
    monkeypatch.setattr(bucket, "_BACKOFF_SECONDS", 0.001)
    place = open_bucket(memory)
    names = [f"{memory.key}/{number:03d}" for number in range(10)]
    for name in names:
        place.overwrite(name, b"x")
    assert [key for key, _ in place.walk(memory.key)] == names
    client = TornListing(place.client)
    monkeypatch.setattr(place, "client", client)
    assert [key for key, _ in place.walk(memory.key)] == names
    assert client.pages == 3


def test_remembering_a_file_asks_a_bucket_for_nothing(memory: ObjectPath, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the memory of files was read, looking up and noting thousands of them costs no request for each."""
    log = StatLog(memory)
    for number in range(30):
        log.remember(f"/images/{number % 3}/{number}.png", (number, 1, 1, 1), DIGEST, read_at=10**18)
        if number % 10 == 9:
            log.flush()
    known = StatLog(memory)
    paths = [f"/images/{number % 3}/{number}.png" for number in range(30)]
    stats = [(number, 1, 1, 1) for number in range(30)]
    assert [each is not None for each in known.look_up(paths, None, stats)] == [True] * 30
    requests: list[str] = []
    get = Bucket.get
    monkeypatch.setattr(Bucket, "get", lambda self, key, **more: requests.append(key) or get(self, key, **more))
    for path, status in zip(paths, stats, strict=True):
        known.remember(path, status, DIGEST, read_at=10**18)
        assert known.find(path, status) is not None
    assert requests == []


def test_a_listing_that_is_refused_for_good_is_an_error(memory: ObjectPath, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no shorter listing."""
    monkeypatch.setattr(bucket, "_BACKOFF_SECONDS", 0.001)
    place = open_bucket(memory)
    place.overwrite(f"{memory.key}/1", b"x")

    class Refusing:
        def list(self, *_: object, **__: object) -> Iterator[Any]:
            raise OSError("connection reset")
            yield

    monkeypatch.setattr(place, "client", Refusing())
    with pytest.raises(MachineError, match="the connection was torn"):
        list(place.walk(memory.key))
