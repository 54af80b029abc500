"""trunk.json from anybody: every MUST of docs/format.md on it, each an error of the cache."""

import json
from pathlib import Path

import pytest

from featcache.errors import CacheError
from featcache.files.sealed import seal_document
from featcache.store.trunk_record import TRUNK_FILE, read_trunk
from tests.builders import new_store

MADE = {"device": "cpu", "engine": "eager", "batch_size": 4, "versions": {"torch": "2.14.0"}}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return new_store(tmp_path, asked="random").root


def rewrite(root: Path, **changes: object) -> None:
    """Other values, and the checksum put right."""
    document = json.loads((root / TRUNK_FILE).read_text())
    document.pop("sum")
    for key, value in changes.items():
        document[key] = value
    (root / TRUNK_FILE).chmod(0o644)
    (root / TRUNK_FILE).write_bytes(seal_document({key: value for key, value in document.items() if value != "gone"}))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", 2), ("format", True), ("format", 1.0), ("format", "1"), ("format", None), ("format", "gone"),
        ("asked", 3), ("asked", None), ("asked", "gone"), ("made", {}), ("made", None), ("made", "gone"),
        ("made", ["x"]), ("made", [{**MADE, "device": 3}]), ("made", [{**MADE, "engine": None}]),
        ("made", [{**MADE, "batch_size": 4.5}]), ("made", [{**MADE, "batch_size": True}]),
        ("made", [{**MADE, "versions": "x"}]), ("made", [{**MADE, "versions": {"torch": 2}}]),
        ("made", [{**MADE, "drift": 3}]), ("made", [{**MADE, "drift": {"compared": "8"}}]),
        ("made", [{**MADE, "drift": {"compared": 8, "cosine_distance": "0"}}]),
        ("spec", {}), ("spec", None), ("spec", []), ("spec", "gone"), ("spec", "vit_nano_16"),
    ],
)  # fmt: skip
def test_a_record_of_another_make_is_an_error_of_the_cache(root, key, value):
    """Each key of its type: exit 3 with one sentence, never a KeyError."""
    rewrite(root, **{key: value})
    with pytest.raises(CacheError) as refused:
        read_trunk(root)
    assert refused.value.exit_code == 3
    assert "\n" not in str(refused.value)


def test_keys_beside_those_of_the_format_are_passed_over(root):
    """A newer writer may add some to the document, and to an entry of `made`."""
    rewrite(root, made=[{**MADE, "more": [1]}], newer={"a": 1})
    assert read_trunk(root).provenance == ({**MADE, "more": [1]},)


def test_a_folder_that_is_named_by_another_trunk_is_refused(root):
    """The name ends in the fingerprint's first digits; the sentence says which they are."""
    tail = root.name[-9:]
    moved = root.rename(root.with_name(f"{root.name[:-8]}01234567"))
    with pytest.raises(CacheError, match=tail):
        read_trunk(moved)
    assert read_trunk(moved.rename(root.with_name(f"any-name{tail}"))).weights_name == "random"


def test_an_entry_that_is_at_fault_has_one_place(root):
    """The message names the one place in `made` that does not fit, whole, and what was found there."""
    rewrite(root, made=[MADE, {**MADE, "versions": {"torch": 2}}])
    with pytest.raises(CacheError, match=r"version: made\.1\.versions\.torch: found 2; expected a valid string$"):
        read_trunk(root)
