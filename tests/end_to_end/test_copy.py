"""`featcache copy`: what it is told to copy, where to, what it answers, and which mistakes it names."""

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

import featcache
from featcache.errors import CacheError
from featcache.maintenance import copying
from tests.builders import record_clusters
from tests.conftest import Ran

Run = Callable[..., Ran]


@pytest.fixture
def here(tmp_path: Path, run: Run) -> Path:
    """The folder that commands are typed in, with a cache, a folder that is none, and one of photos."""
    here = tmp_path / "here"
    record_clusters(here / "cache", "train", "val")
    (here / "cache" / "weights.json").write_text("{}")
    (here / "photos" / "ants").mkdir(parents=True)
    (here / "wds").mkdir()
    (here / "wds" / "a.tar").touch()
    return here


def test_both_times_all_files_are_counted_and_the_next_command_is_named(here: Path, run: Run) -> None:
    """What the first copy writes, a second one finds there, file by file; the answer ends with a command to paste."""
    first = featcache.copy_cache(here / "cache", here / "copy")
    again = featcache.copy_cache(here / "cache", here / "copy")
    assert (first.files, first.present, again.files, again.present) == (again.present, 0, 0, first.files)
    told = run("copy", "cache", "another copy")
    assert told.out.splitlines()[-1] == "next: featcache info --cache 'another copy'"
    assert run(*shlex.split(told.out.splitlines()[-1])[2:]).code == 0


@pytest.mark.parametrize(
    ("words", "code", "found", "advised"),
    [
        ("wds copy", 3, "wds: there is no cache here to copy", ""),
        ("nowhere copy", 3, "nowhere: there is no cache here to copy", ""),
        ("cahce copy", 3, "cahce: there is no cache here to copy; did you mean cache?", "copy cache copy"),
        ("cache photos", 3, "photos: it holds what is of no cache (ants)", "copy cache photos/cache"),
        ("cache wds/a.tar", 3, "wds/a.tar: a file, expected a folder", ""),
        ("--cache cache copy", 2, "the cache is its first word", "copy cache copy"),
        ("copy --cache=cache", 2, "the cache is its first word", "copy cache copy"),
        ("cache copy --cache=cache", 2, "the cache is its first word", "copy cache copy"),
        ("cache mem://x", 2, "COPY: found mem://…, expected a folder, s3://…, gs://… or az://…", "copy --help"),
        ("mem://x copy", 2, "CACHE: found mem://…", "copy --help"),
        ("cache nosuch/../cache", 2, "the cache and its copy are one place", "copy --help"),
        ("cache memory://bucket/x", 2, "memory:// lasts as long as one process", "copy --help"),
        ("cache s3:/bucket/x", 2, "did you mean s3://bucket/x?", "copy cache s3://bucket/x"),
    ],
)
def test_a_mistake_is_named_and_nothing_is_made(
    here: Path, run: Run, words: str, code: int, found: str, advised: str
) -> None:
    """The exit code, what was found, and the corrected command; no file is written."""
    before = sorted(here.rglob("*"))
    told = run("copy", *words.split())
    assert (told.code, found in told.err, told.out) == (code, True, ""), told.err
    assert [line for line in told.err.splitlines() if line.startswith("try: ")] == (
        [f"try: featcache {advised}"] if advised else []
    )
    assert sorted(here.rglob("*")) == before


def test_an_empty_folder_takes_a_copy(here: Path, run: Run) -> None:
    """So does a folder with hidden files alone, as systems leave them."""
    (here / "copy").mkdir()
    (here / "copy" / ".DS_Store").touch()
    assert run("copy", "cache", "copy").code == 0


def test_what_gc_removes_while_a_cache_is_copied_is_looked_up_again(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shards that took the place of those that were listed are copied; where one is truly missing it is named."""
    cache, (store,) = here / "cache", sorted((here / "cache" / "stores").iterdir())
    copy_one, is_first = copying._Copying._copy_one, True

    def collect_first(self: copying._Copying, file: tuple[Path, str]) -> int:
        nonlocal is_first
        if is_first:
            is_first = False
            featcache.gc(cache=cache, apply=True)
        return copy_one(self, file)

    monkeypatch.setattr(copying._Copying, "_copy_one", collect_first)
    featcache.copy_cache(cache, tmp_path / "copy")
    assert not is_first
    assert featcache.verify(cache=tmp_path / "copy") == []
    for shard in (store / "shards").iterdir():
        shard.unlink()
    with pytest.raises(CacheError, match="the log names it, and it is not there"):
        featcache.copy_cache(cache, tmp_path / "another")
