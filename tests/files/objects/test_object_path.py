"""ObjectPath: a place in a bucket, where code expects a path."""

import os
import pickle
import string
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import featcache
from featcache.errors import CacheError, Correction, UsageError
from featcache.files import publish
from featcache.files.objects.bucket import Bucket, open_bucket
from featcache.files.objects.object_path import ObjectPath, parse_object_url, parse_path
from featcache.files.objects.object_reader import read_object
from featcache.files.objects.object_version import ObjectVersion
from featcache.files.objects.publishing_objects import sweep_old_probes
from featcache.store import cache_folder

PARTS = st.lists(st.text(string.printable, min_size=1, max_size=12), max_size=5)


@given(PARTS)
def test_no_name_leads_out_of_the_prefix(parts: list[str]) -> None:
    """Whatever is joined to a cache, its key begins with the cache's, or asking for it is an error."""
    cache = ObjectPath("s3://bucket/a/cache")
    place = cache.joinpath(*parts)
    try:
        key = place.key
    except CacheError:
        return
    assert place.bucket == "s3://bucket"
    assert key == "a/cache" or key.startswith("a/cache/")
    assert ".." not in key.split("/")


@pytest.mark.parametrize("name", ["../other", "a/../../other", "/etc/passwd", "a\\..\\b", "a\nb"])
def test_a_name_that_would_lead_out_is_refused(name: str) -> None:
    """A dot-dot, an absolute path, a backslash or a control character in a name is a CacheError, before any request."""
    with pytest.raises(CacheError, match="leads out of the cache"):
        _ = (ObjectPath("s3://bucket/cache") / name).key


def test_it_behaves_as_a_path_does() -> None:
    """Parent, name, joining, comparing, hashing, sorting and pickling are those of pathlib; its text is the URL."""
    place = ObjectPath("s3://bucket/cache/stores/one-ab")
    assert (str(place), place.name, str(place.parent.parent)) == (
        "s3://bucket/cache/stores/one-ab", "one-ab", "s3://bucket/cache",
    )  # fmt: skip
    assert place.parent / "one-ab" == place
    assert len({place, place.parent / "one-ab"}) == 1
    assert str(place.with_name("two")) == "s3://bucket/cache/stores/two"
    assert place.relative_to(place.parents[1]).parts == ("stores", "one-ab")
    assert str(pickle.loads(pickle.dumps(place))) == str(place)
    assert place.absolute() == place.resolve() == place


def test_no_call_of_the_system_takes_it() -> None:
    """A call that would look for a local file of that name raises a TypeError instead."""
    place = ObjectPath("s3://bucket/cache")
    for call in (os.fspath, os.path.lexists, os.stat, os.listdir, open, Path.touch, Path.read_bytes):
        with pytest.raises(TypeError, match="in an object store"):
            call(place)  # type: ignore[operator]


@pytest.mark.parametrize(
    "text", ["s3://key:secret@bucket/cache", "s3://bucket/cache?sig=secret", "az://container/cache#secret"]
)
def test_a_url_with_credentials_is_refused_and_not_repeated(text: str) -> None:
    """Exit code 2; the message names none of them."""
    with pytest.raises(UsageError, match="credentials come from the environment") as refused:
        parse_object_url(text)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("text", ["ftp://host/cache", "s3://", "s3:///cache", "s3://bucket/../other", "gs://b ucket"])
def test_another_url_is_refused(text: str) -> None:
    """Another scheme, no bucket, or a prefix that leads out of it is a UsageError that says what is expected."""
    with pytest.raises(UsageError, match=r"--cache: found .*expected"):
        parse_object_url(text)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("s3:/bucket/x", "s3://bucket/x"), ("s3:bucket", "s3://bucket"), ("gs:/b", "gs://b"), ("AZ:/c/x", "az://c/x"),
    ],
)  # fmt: skip
def test_a_url_with_a_slash_too_few_is_refused_where_it_was_typed(typed: str, meant: str) -> None:
    """Exit code 2 and the URL that is meant, for a cache and for data; no folder of that name is looked for."""
    calls = (lambda: parse_path(typed), lambda: featcache.load("train", data=typed), lambda: cache_folder(typed))
    for call, option in zip(calls, ("--cache", typed, "--cache"), strict=True):
        with pytest.raises(UsageError, match=f"did you mean {meant}") as refused:
            call()
        assert refused.value.corrections == (Correction(option, meant),)


def test_a_url_with_a_slash_too_few_and_a_secret_is_not_repeated() -> None:
    """What may be a secret is in no message and in no corrected command."""
    with pytest.raises(UsageError, match="a slash too few, expected s3://BUCKET/PREFIX") as refused:
        parse_path("s3:/key:secret@bucket")
    assert "secret" not in str(refused.value)
    assert not refused.value.corrections


def test_the_slash_that_pathlib_drops_is_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `Path` of a URL that is given to a function of the library is the URL, and no folder."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CacheError, match=r"^memory://nobody/copied: there is no cache here to copy"):
        featcache.copy_cache(Path("memory://nobody/copied"), tmp_path / "copy")
    assert not list(tmp_path.iterdir())


def test_what_is_no_url_is_a_folder(tmp_path: Path) -> None:
    """A text without a scheme stays the path that it is, and the copies of a local cache are refused."""
    assert parse_object_url("s3/bucket") is None
    assert type(parse_path("cache")) is type(Path("cache"))
    assert str(parse_path(Path("s3://bucket/cache"))) == "s3://bucket/cache"  # pathlib drops one slash
    with pytest.raises(UsageError, match="--local-cache has no effect"):
        cache_folder(tmp_path, local_cache=tmp_path / "copies")


def test_a_document_that_is_too_large_is_not_fetched(memory: ObjectPath, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its size is told before its bytes: whoever can write to a bucket cannot fill the memory of who reads."""
    publish(memory / "trunk.json", b"x" * 1000)
    fetched: list[bytes] = []
    get = Bucket.get

    def record(bucket: Bucket, key: str, **options: int | None) -> tuple[bytes, ObjectVersion]:
        data, version = get(bucket, key, **options)
        fetched.append(data)
        return data, version

    monkeypatch.setattr(Bucket, "get", record)
    with pytest.raises(OSError, match="1,000 bytes, more than any such file has"):
        read_object(memory / "trunk.json", 999)
    assert fetched == [b""]
    assert read_object(memory / "trunk.json", 1000) == b"x" * 1000


def test_what_was_written_for_a_moment_is_swept(memory: ObjectPath, monkeypatch: pytest.MonkeyPatch) -> None:
    """By gc, once it is an hour old: a process that was killed between its put and its removal leaves it behind."""
    for name in ("stores/a/.probe-0f", "stores/a/.clock-1e", "stores/a/trunk.json"):
        open_bucket(memory).overwrite(f"{memory.key}/{name}", b"1")
    sweep_old_probes(memory)
    assert len(list((memory / "stores/a").iterdir())) == 3
    now = time.time_ns() + 3601 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: now)
    sweep_old_probes(memory)
    assert [path.name for path in (memory / "stores/a").iterdir()] == ["trunk.json"]


def test_copies_are_in_a_folder() -> None:
    """A URL in the place of the folder for copies is refused; it would become a folder `s3:`."""
    with pytest.raises(UsageError, match="--local-cache: found s3://bucket/copies, expected a folder"):
        cache_folder("s3://bucket/cache", local_cache="s3://bucket/copies")


@pytest.mark.parametrize("pattern", ["*", "*.h5", "*/*", "*/*/*", "*/*/head.json", "x-*"])
def test_glob_finds_what_it_finds_in_a_folder(memory: ObjectPath, tmp_path: Path, pattern: str) -> None:
    """The same names in a bucket and in a folder give the same matches."""
    for name in ("a.h5", "b.txt", "x-1/one.h5", "x-1/heads/head.json", "y/z/head.json", "y/z/w/deep.json"):
        publish(memory / name, b"1")
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"1")
    remote = [path.relative_to(memory).parts for path in memory.glob(pattern)]
    assert remote == sorted(path.relative_to(tmp_path).parts for path in tmp_path.glob(pattern))
    assert [path.name for path in memory.iterdir()] == sorted(path.name for path in tmp_path.iterdir())
