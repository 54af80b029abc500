"""Names and links in a cache that lead out of it: refused, and nothing is read, written or removed there."""

import contextlib
import shutil
from dataclasses import asdict

import pytest

import featcache
from featcache.errors import CacheError, FeatcacheError
from featcache.files.sealed import seal_line
from featcache.store import commits
from tests.faults.conftest import reopened
from tests.faults.world import KEY, overwrite

BAD_NAMES = [
    "../../../etc/passwd",
    "/etc/passwd",
    "..",
    ".",
    "",
    "a/b.h5",
    "00000-5d41402a.h5/../x",
    "00000-5d41402a.h5\n",
]


@pytest.mark.fault(15)
@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_shard_that_is_named_out_of_its_folder(hurt, saw, name):
    """A line whose shard stands elsewhere is no line: the log is refused, and the file is never opened."""
    fields = {**asdict(reopened(hurt).shards[0]), "name": name}
    with (hurt.store / commits.LOG_NAME).open("ab") as log:
        log.write(seal_line({"add": fields}))
    for ask in (hurt.load, hurt.extract):
        with pytest.raises(CacheError, match="name or hash is malformed"):
            ask()
    assert hurt.verify()
    saw("a shard's name in the log that leads elsewhere", "the line is refused")


@pytest.mark.fault(15)
def test_a_dropped_name_that_leads_elsewhere_removes_nothing(hurt, tmp_path, saw):
    """Gc removes the files of dropped shards: of names that are a shard's, in the store's folder, alone."""
    precious = tmp_path / "precious.h5"
    precious.write_bytes(b"precious")
    for name in (f"../../../../{precious.name}", str(precious), "../trunk.json", "../commits.jsonl"):
        with (hurt.store / commits.LOG_NAME).open("ab") as log:
            log.write(seal_line({"drop": name, "at": 0}))
        featcache.gc(cache=hurt.cache, apply=True)
        saw("a drop line that names a file elsewhere", "nothing removed")
    assert precious.read_bytes() == b"precious"
    hurt.same()


@pytest.mark.fault(15)
@pytest.mark.parametrize("what", ["a shard", "a listing", "trunk.json", "commits.jsonl", "stat.log", "weights.json"])
def test_a_link_in_the_place_of_a_file(hurt, tmp_path, saw, what):
    """A symbolic link, even to the right bytes: not followed for reading, and never written through."""
    path = {"a shard": hurt.shards[0], "a listing": hurt.listing_file}.get(what) or next(hurt.cache.rglob(what))
    target = tmp_path / "target"
    shutil.copy(path, target)
    before = target.read_bytes()
    path.unlink()
    path.symlink_to(target)
    if what == "weights.json":  # which loading does not need
        hurt.same()
    else:
        with pytest.raises(FeatcacheError):
            hurt.load()
    if what not in ("stat.log", "weights.json"):
        assert hurt.verify()
    with contextlib.suppress(FeatcacheError):
        hurt.extract()
    assert target.read_bytes() == before
    saw(f"a symbolic link in the place of {what}", "not followed; its target untouched")


@pytest.mark.fault(15)
def test_a_listing_line_that_leads_elsewhere(hurt, saw):
    """Names of data set, variant and split with .. or / are refused in the log and in the listing's own text."""
    line = asdict(reopened(hurt).listings[KEY])
    for field in ("data_set", "variant", "split"):
        for bad in ("../..", "/etc", "a/b", ".."):
            with (hurt.store / commits.LOG_NAME).open("r+b") as log:
                whole = log.read()
                log.write(seal_line({"listing": {**line, field: bad}}))
            with pytest.raises(CacheError, match="is not a valid name of a listing"):
                reopened(hurt)
            overwrite(hurt.store / commits.LOG_NAME, whole)
            saw("a listing's name in the log that leads elsewhere", "the line is refused")
    hurt.same()
