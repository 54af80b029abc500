"""Lines and documents that know whether they are whole."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcache.files.sealed import seal_document, seal_line, unseal_document, unseal_line

# What a log holds: JSON of any depth, with file names as os.fsdecode gives them (lone surrogates included).
names = st.binary(max_size=12).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | names
values = st.recursive(plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3))
entries = st.dictionaries(names.filter(lambda key: key != "sum"), values, max_size=4)


@given(entries)
def test_a_line_gives_back_what_was_sealed(entry):
    """Any JSON object comes back from its line, which is one line of ASCII whatever the names in it."""
    line = seal_line(entry)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert line.isascii()
    assert unseal_line(line[:-1]) == entry


@given(entries, st.data())
def test_a_torn_line_is_none(entry, data):
    """Every proper beginning of a line is known to be torn."""
    line = seal_line(entry)[:-1]
    assert unseal_line(line[: data.draw(st.integers(0, len(line) - 1))]) is None


@given(entries, st.data())
def test_a_line_with_a_changed_byte_is_none(entry, data):
    """A byte that changed anywhere in a line, its checksum included, is seen."""
    line = bytearray(seal_line(entry)[:-1])
    place = data.draw(st.integers(0, len(line) - 1))
    line[place] ^= data.draw(st.integers(1, 255))
    assert unseal_line(bytes(line)) is None


def test_a_line_that_was_sealed_around_no_json_is_none():
    """A foreign line whose checksum is right, but which is no JSON, is damage and not a crash."""
    import hashlib

    body = b"{not json"
    line = body + b',"sum":"' + hashlib.sha256(body).hexdigest()[:16].encode() + b'"}'
    assert unseal_line(line) is None


@given(entries)
def test_a_document_gives_back_what_was_sealed(entry):
    """Any JSON object comes back from its document, which is JSON for everybody else too."""
    document = seal_document(entry)
    assert unseal_document(document) == entry
    assert json.loads(document).keys() == {*entry, "sum"}


@given(entries.filter(bool), st.data())
def test_a_document_with_a_changed_byte_never_says_something_else(entry, data):
    """A changed byte gives None, or was in a blank or an escape that says the same."""
    document = bytearray(seal_document(entry))
    place = data.draw(st.integers(0, len(document) - 1))
    document[place] ^= data.draw(st.integers(1, 255))
    assert unseal_document(bytes(document)) in (None, entry)


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff\xfe", b"[]", b"null", b"3", b'{"a": 1}', b"{", b"\0" * 64, b"[" * 200_000, b'{"sum": null}'],
    ids=["empty", "no text", "list", "null", "number", "unsealed", "cut", "zeros", "deep", "no checksum"],
)
def test_what_was_never_sealed_is_none(data):
    """Foreign bytes are None, and never an exception."""
    assert unseal_document(data) is None
    assert unseal_line(data) is None


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32-le"])
def test_documents_are_utf_8(encoding):
    """All text of a cache is UTF-8 (docs/format.md); json itself would guess another encoding."""
    text = seal_document({"a": "ä"}).decode()
    assert unseal_document(text.encode()) == {"a": "ä"}
    assert unseal_document(text.encode(encoding)) is None
