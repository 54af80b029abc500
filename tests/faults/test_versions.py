"""What an earlier or a later version wrote."""

import json

import numpy as np
import pytest

import featcache
from featcache.errors import CacheError
from featcache.store import CommitLog
from tests.faults.conftest import reopened
from tests.faults.world import lines_of, overwrite, write_lines


@pytest.mark.fault(29)
@pytest.mark.parametrize("number", [0, 2, 99, None, "1"])
def test_a_store_of_another_format_is_refused(hurt, saw, number):
    """trunk.json of a newer (or unknown older) format: every command says which it is and which are read."""
    from featcache.files.sealed import seal_document, unseal_document

    path = hurt.store / "trunk.json"
    document = unseal_document(path.read_bytes())
    assert document is not None
    assert document["format"] == 1
    overwrite(path, seal_document({**document, "format": number}))
    for ask in (hurt.load, hurt.extract):
        with pytest.raises(CacheError, match=f"format {number}, this featcache reads 1"):
            ask()
    assert any(f"format {number}" in problem.message for problem in hurt.verify())
    featcache.repair(cache=hurt.cache)
    assert unseal_document(path.read_bytes()) == {**document, "format": number}  # left to those who know it
    saw("trunk.json of another format", "refused, both formats named; repair leaves it alone")


@pytest.mark.fault(29)
def test_what_a_newer_version_writes_into_a_log_or_listing_is_refused(hurt, small, saw):
    """A line of an unknown kind, a shard with an unknown field, a listing of another version: named, not skipped."""
    from featcache.files.sealed import seal_line, unseal_line
    from featcache.store import listings

    whole = lines_of(hurt)
    add = unseal_line(whole[0][:-1])
    assert add is not None
    for entry in ({"index": {}}, {"add": {**add["add"], "compression": "zstd"}}):
        write_lines(hurt, [*whole, seal_line(entry)])
        with pytest.raises(CacheError, match=f"line {len(whole) + 1} cannot be read by this version"):
            reopened(hurt)
        saw("a line that a newer version wrote", "refused, the line named")
    write_lines(hurt, whole)
    version, extracted = listings.VERSION, reopened(small).listing(("digits", "all", "train"))
    try:
        listings.VERSION = listings.WITH_TARGETS + 1
        newer = listings.write_listing(hurt.cache, extracted)
    finally:
        listings.VERSION = version
    CommitLog(hurt.store).name_listing(newer)
    with pytest.raises(CacheError, match="its version is 3, this featcache reads 1 and 2"):
        hurt.load()
    saw("a listing of a newer version", "refused, both versions named")


@pytest.mark.fault(29)
def test_a_spec_without_fields_that_came_later_is_read(hurt, small, saw):
    """A field at its default is left out of trunk.json, so that a store from before that field keeps its identity."""
    spec = json.loads((hurt.store / "trunk.json").read_bytes())["spec"]
    known = {"arch", "weights_sha256", "transform"}
    assert set(spec) >= known
    assert "layer" not in spec
    assert np.array_equal(hurt.load().x, small.truth["train"].x)
    saw("a trunk.json that lacks the fields at their defaults", "read; the same store")
