"""Listings on disk: any names, the same bytes, nothing outside the cache."""

import dataclasses
import hashlib
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcache.errors import CacheError
from featcache.listing.listing import Listing
from featcache.store import hdf5, listing_files, listings
from featcache.store.commits import ListingLine
from featcache.store.listings import (
    ExtractedListing,
    decode_listing,
    encode_listing,
    listing_path,
    read_listing,
    write_listing,
)
from tests.builders import extracted, listing

# Whatever Linux allows in a file name: every byte but NUL (and "/", which separates), UTF-8 or not.
file_names = st.binary(min_size=1, max_size=8).map(lambda raw: os.fsdecode(raw.replace(b"\0", b"\n")))
words = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=8)
classes = st.lists(file_names, min_size=1, max_size=4, unique=True).map(lambda names: tuple(sorted(names)))


@st.composite
def extracts(draw) -> ExtractedListing:
    known, rows = draw(classes), draw(st.integers(0, 6))

    def column(values):
        return tuple(draw(st.lists(values, min_size=rows, max_size=rows)))

    listing = Listing(
        data_set="digits",
        variant="all",
        split="train",
        root="/" + draw(file_names),
        classes=known,
        paths=column(file_names),
        labels=np.array(column(st.integers(0, len(known) - 1)), dtype=np.int64),
        clips=column(st.just("") | file_names),
        subjects=column(st.just("") | words),
        ignored=tuple(draw(st.lists(file_names, max_size=2))),
        part=draw(st.sampled_from(["", "limit 3"])),
    )
    digests = np.frombuffer(draw(st.binary(min_size=32 * rows, max_size=32 * rows)), np.uint8).reshape(rows, 32)
    return ExtractedListing(listing, digests, column(st.just("") | words))


def same(a: ExtractedListing, b: ExtractedListing) -> bool:
    fields = [field.name for field in dataclasses.fields(Listing) if field.name != "labels"]
    return (
        all(getattr(a.listing, name) == getattr(b.listing, name) for name in fields)
        and a.listing.labels.tolist() == b.listing.labels.tolist()
        and a.digests.tobytes() == b.digests.tobytes()
        and a.reasons == b.reasons
    )


def an_extract(*paths: str, split: str = "train") -> ExtractedListing:
    rows = listing([0] * len(paths), split=split, data_set="digits", root="/data", classes=("0", "1"), paths=paths)
    return extracted(rows, np.zeros((len(paths), 32), np.uint8))


@given(extracts())
def test_a_listing_comes_back_as_it_was(extracted):
    """Not UTF-8, newlines, empty columns, no rows at all: every field of every row is lossless."""
    assert same(decode_listing(encode_listing(extracted)), extracted)


@given(extracts())
def test_the_same_listing_gives_the_same_bytes(extracted):
    """A listing's hash stands for its content: a round trip changes no byte of it."""
    assert encode_listing(decode_listing(encode_listing(extracted))) == encode_listing(extracted)


@given(extracts())
def test_a_mapped_listing_is_the_one_that_is_read(extracted):
    """A file too large to be held is mapped: every field is that of the same bytes in memory."""
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        line = write_listing(Path(name), extracted)
        patch.setattr(listing_files, "MAX_DOCUMENT_BYTES", 0)
        mapped = read_listing(Path(name), line)
    assert same(mapped, extracted)
    assert encode_listing(mapped) == encode_listing(extracted)


@given(extracts())
def test_a_listing_that_is_laid_out_is_the_one_that_is_built(extracted):
    """A file too large to be built in memory: the same bytes each time, which every reader takes for the same rows."""
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(listings, "LAID_OUT_BYTES", 0)
        line = write_listing(Path(name), extracted)
        assert same(read_listing(Path(name), line), extracted)
        assert line.sha256 == hashlib.sha256(encode_listing(extracted)).hexdigest()
        assert write_listing(Path(name), decode_listing(encode_listing(extracted))) == line


@given(extracts())
def test_good_rows_are_those_without_a_reason(extracted):
    """`good` indexes the rows that have an embedding, in order."""
    assert extracted.embedded.tolist() == [row for row, reason in enumerate(extracted.reasons) if not reason]


def test_what_was_written_is_read_and_written_once(tmp_path):
    """The file is named by its content; writing it again leaves the very file alone."""
    extracted = an_extract("train/0/1.png", "train/1/2.png")
    line = write_listing(tmp_path, extracted)
    path = listing_path(tmp_path, line)
    assert path.relative_to(tmp_path).as_posix() == f"listings/digits/all/train-{line.sha256[:8]}.h5"
    before = path.stat()
    assert write_listing(tmp_path, extracted) == line
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert same(read_listing(tmp_path, line), extracted)


def test_a_damaged_listing_is_named_and_writing_mends_it(tmp_path):
    """A flipped bit anywhere is refused, with the command that mends it; that writes the same bytes again."""
    extracted = an_extract("train/0/1.png")
    line = write_listing(tmp_path, extracted)
    path = listing_path(tmp_path, line)
    whole = path.read_bytes()
    path.chmod(0o644)
    for place in range(0, len(whole), 37):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(CacheError, match="featcache extract --split train"):
            read_listing(tmp_path, line)
    write_listing(tmp_path, extracted)
    assert path.read_bytes() == whole
    assert same(read_listing(tmp_path, line), extracted)


def gone(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def a_link(path: Path) -> None:
    path.rename(path.parent / "elsewhere")
    path.symlink_to("elsewhere")


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("path", ["v.mp4#7", "v.mp4#0000007", "v.mp4", "#000007", "v.mp4#-00007"])
def test_a_frame_of_a_video_has_one_name(path):
    """Six digits or as many as it needs: two names of one frame would be two rows of it."""
    for good, names in ((True, ("v.mp4#000007", "v.mp4#1000000")), (False, ("v.mp4#000007", path))):
        one = an_extract(*names)
        data = encode_listing(dataclasses.replace(one, listing=dataclasses.replace(one.listing, videos=True)))
        if good:
            assert decode_listing(data).listing.paths == names
        else:
            with pytest.raises(ValueError, match="names no frame"):
                decode_listing(data)


@pytest.mark.parametrize("damage", [gone, cut, a_link, a_folder])
def test_a_listing_that_is_not_there_is_told(tmp_path, damage):
    """Gone, cut, replaced by a link or a folder: an error that names the file."""
    line = write_listing(tmp_path, an_extract("train/0/1.png"))
    damage(listing_path(tmp_path, line))
    with pytest.raises(CacheError, match=f"train-{line.sha256[:8]}"):
        read_listing(tmp_path, line)


@pytest.mark.parametrize("bad", ["..", "../x", "/etc", "a/b", "", ".hidden", "a\nb", "a\0b", "x" * 101, "é"])
@pytest.mark.parametrize("field", ["data_set", "variant", "split"])
def test_a_name_that_leads_out_of_the_cache_is_refused(tmp_path, field, bad):
    """No line can be made whose file would stand elsewhere than below listings/."""
    fields = {"data_set": "digits", "variant": "all", "split": "train", "sha256": "0" * 64}
    with pytest.raises(ValueError, match="not a valid name of a listing"):
        listing_path(tmp_path, ListingLine(**{**fields, field: bad}))


def sealed_by(change) -> bytes:
    """A listing's arrays, changed, as a well-formed file."""
    found = hdf5.parse_file(encode_listing(an_extract("train/0/1.png", "train/0/2.png")), listing_files._EXPECTED)
    meta = json.loads(found["meta"].tobytes())
    change(found, meta)
    found["meta"] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    return hdf5.build_file(found)[0]


FOREIGN = {
    "newer version": lambda arrays, meta: meta.update(version=2),
    "no version": lambda arrays, meta: meta.pop("version"),
    "no root": lambda arrays, meta: meta.pop("root"),
    "one label less": lambda arrays, meta: arrays.update(labels=arrays["labels"][:1]),
    "one digest less": lambda arrays, meta: arrays.update(digests=arrays["digests"][:1]),
    "short digests": lambda arrays, meta: arrays.update(digests=arrays["digests"][:, :31]),
    "one path more": lambda arrays, meta: arrays.update(paths=np.frombuffer(b"a\0b\0c\0", np.uint8)),
    "label too large": lambda arrays, meta: arrays.update(labels=arrays["labels"] + 2),
    "label below zero": lambda arrays, meta: arrays.update(labels=arrays["labels"] - 1),
    "clip that is none": lambda arrays, meta: arrays.update(clips_codes=arrays["clips_codes"] + 1),
    "clip below zero": lambda arrays, meta: arrays.update(clips_codes=arrays["clips_codes"] - 1),
    "one reason less": lambda arrays, meta: arrays.update(reasons_codes=arrays["reasons_codes"][:1]),
    "float labels": lambda arrays, meta: arrays.update(labels=arrays["labels"].astype(np.float64)),
    "classes that are no names": lambda arrays, meta: meta.update(classes="ab"),
    "classes that are numbers": lambda arrays, meta: meta.update(classes=[0, 1]),
    "a root that is no text": lambda arrays, meta: meta.update(root=3),
    "a part that is no text": lambda arrays, meta: meta.update(part=None),
    "ignored that is no list": lambda arrays, meta: meta.update(ignored="ab"),
    "videos that is no boolean": lambda arrays, meta: meta.update(videos=1),
    "a version that is no number": lambda arrays, meta: meta.update(version=True),
    "a name that leads out": lambda arrays, meta: meta.update(data_set="../x"),
    "another split than the log's": lambda arrays, meta: meta.update(split="val"),
    "a path without its end": lambda arrays, meta: arrays.update(paths=arrays["paths"][:-1]),
    "no subjects": lambda arrays, meta: arrays.pop("subjects_codes"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_listing_that_contradicts_itself_is_refused(tmp_path, kind):
    """A well-formed file with a right hash, but of another make, is an error of the cache and not a crash."""
    import hashlib

    data = sealed_by(FOREIGN[kind])
    line = ListingLine(data_set="digits", variant="all", split="train", sha256=hashlib.sha256(data).hexdigest())
    path = listing_path(tmp_path, line)
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    with pytest.raises(CacheError, match="this listing cannot be read by this version"):
        read_listing(tmp_path, line)
