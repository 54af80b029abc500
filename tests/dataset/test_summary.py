"""What is in a data set: every count against a plain reference, and no file opened."""

import os
import time
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcache.dataset.duplicates import read_known_digests
from featcache.dataset.summary import count_contents, count_missing, describe
from featcache.listing.listing import Listing
from tests import builders
from tests.builders import new_store
from tests.conftest import write_images

CLASSES = ("a", "b", "c", "looking (e.g. searching)")

# Few paths, clips, people and contents: most stand in several rows, and often in both splits.
rows = st.tuples(
    st.sampled_from([f"{number}.png" for number in range(8)]),
    st.integers(0, len(CLASSES) - 1),
    st.sampled_from(["", "clip1", "clip2", "clip3"]),
    st.sampled_from(["", "vp1", "vp2"]),
    st.integers(0, 5),  # the content; 0 is not known
)
split_rows = st.lists(rows, max_size=25)


def a_listing(found, split="train", **fields):
    columns = list(zip(*found, strict=True)) or [()] * 5
    named = {"data_set": "d", "variant": "all", "root": "/nowhere", "classes": CLASSES, **fields}
    return Listing(
        split=split, paths=columns[0], labels=np.array(columns[1], dtype=np.int64), clips=columns[2],
        subjects=columns[3], **named,
    )  # fmt: skip


def digests_of(found):
    return np.array([[row[4]] * 32 for row in found], dtype=np.uint8).reshape(-1, 32)


def pairs_of(labels_by_image):
    """How many images stand under each two labels, by a plain loop."""
    return Counter(
        (CLASSES[one], CLASSES[other])
        for labels in labels_by_image.values()
        for one, other in combinations(sorted(labels), 2)
    )


def labels_by(found, column):
    labels = {}
    for row in found:
        labels.setdefault(row[column], set()).add(row[1])
    return labels


@given(split_rows)
def test_the_counts_of_a_split_are_those_of_a_plain_loop(found):
    """Rows, images, shared and conflicting ones with their labels, clips, subjects, classes, imbalance."""
    split = count_contents([a_listing(found)]).splits["train"]
    places, labels = Counter(row[0] for row in found), labels_by(found, 0)
    support = Counter(row[1] for row in found)
    assert (split.rows, split.images) == (len(found), len(places))
    assert split.shared_images == sum(count > 1 for count in places.values())
    assert split.conflicting_images == sum(len(under) > 1 for under in labels.values())
    assert {conflict.labels: conflict.images for conflict in split.conflicts} == pairs_of(labels)
    assert [conflict.images for conflict in split.conflicts] == sorted(pairs_of(labels).values(), reverse=True)
    assert split.clips == len({row[2] for row in found} - {""})
    assert split.subjects == len({row[3] for row in found} - {""})
    assert split.classes == {name: support[label] for label, name in enumerate(CLASSES)}
    assert list(split.classes) == list(CLASSES)
    assert split.lacking == tuple(name for label, name in enumerate(CLASSES) if not support[label])
    assert split.imbalance == (max(support.values()) / min(support.values()) if support else None)


@given(split_rows, split_rows)
def test_exact_duplicates_are_those_of_a_plain_loop(train, val):
    """Contents under two or more paths, those of them in both splits and under two labels, and every row of these."""
    listings = [a_listing(train), a_listing(val, "val")]
    found = count_contents(listings, digests={"train": digests_of(train), "val": digests_of(val)}).duplicates
    known = [(*row, split) for split, part in (("train", train), ("val", val)) for row in part if row[4]]
    of = {content: [row for row in known if row[4] == content] for content in {row[4] for row in known}}
    repeated = {content: part for content, part in of.items() if len({row[0] for row in part}) > 1}
    crossing = [
        part for part in repeated.values() if len({row[5] for row in part}) > 1 or len({row[1] for row in part}) > 1
    ]
    labels = labels_by([row for part in repeated.values() for row in part], 4)
    assert (found.images, found.contents, found.repeated) == (len({row[0] for row in known}), len(of), len(repeated))
    assert found.across_splits == {
        ("train", "val"): sum(len({row[5] for row in part}) == 2 for part in repeated.values())
    }
    assert found.conflicting == sum(len(under) > 1 for under in labels.values())
    assert {conflict.labels: conflict.images for conflict in found.conflicts} == pairs_of(labels)
    assert {frozenset((copy.split, copy.path, copy.label) for copy in group) for group in found.groups} == {
        frozenset((row[5], row[0], CLASSES[row[1]]) for row in part) for part in crossing
    }
    assert all(len(set(group)) == len(group) for group in found.groups)


def test_what_two_splits_share_is_named():
    """Images, clips and subjects that stand in two splits are there, in the document too; the unnamed are nobody."""
    train = a_listing([("1.png", 0, "c1", "vp1", 0), ("2.png", 0, "c2", "", 0), ("3.png", 1, "", "vp2", 0)])
    val = a_listing([("1.png", 0, "c1", "vp1", 0), ("4.png", 1, "", "", 0)], "val")
    document = count_contents([train, val]).to_json()
    assert document["cuts"] == [{"splits": ("train", "val"), "images": 1, "clips": 1, "subjects": ("vp1",)}]
    assert count_contents([train, a_listing([("9.png", 0, "", "", 0)], "val")]).leaks == ()


def test_the_keys_of_the_contract():
    """A split's document has the keys that the design names, and `classes` maps every name to its rows."""
    split = count_contents([a_listing([("1.png", 0, "c1", "vp1", 0), ("1.png", 2, "c2", "vp1", 0)])]).to_json()[
        "splits"
    ]
    contract = {"rows": 2, "images": 1, "shared_images": 1, "conflicting_images": 1, "clips": 2, "subjects": 1}
    assert contract.items() <= split["train"].items()
    assert split["train"]["classes"] == {"a": 1, "b": 0, "c": 1, "looking (e.g. searching)": 0}
    assert split["train"]["lacking"] == ("b", "looking (e.g. searching)")


def test_splits_that_number_their_classes_differently_are_refused():
    """Labels of two class lists cannot be counted together: every label behind a missing class would shift."""
    with pytest.raises(ValueError, match="2 lists of classes"):
        count_contents([a_listing([]), a_listing([], "val", classes=CLASSES[1:])])


@pytest.mark.parametrize("count", [3, 30])  # few files of a folder are asked for, many are looked up in its list
def test_files_that_are_not_there_are_counted_once(tmp_path, count):
    """A file, or a link to one, is there; a missing one, a folder, a dangling link, a FIFO and a NUL are not."""
    there = [f"clip/caf\udce9\n{number}.png" for number in range(count)] + ["clip/link.png", "loose.png"]
    (tmp_path / "clip").mkdir()
    for path in (*there[:-2], "loose.png"):
        (tmp_path / path).write_bytes(b"")
    (tmp_path / "clip" / "link.png").symlink_to("../loose.png")
    (tmp_path / "clip" / "dangling.png").symlink_to("nowhere.png")
    (tmp_path / "clip" / "folder.png").mkdir()
    os.mkfifo(tmp_path / "clip" / "fifo.png")
    missing = [f"clip/{name}.png" for name in ("dangling", "folder", "fifo", "gone", "a\0b")]
    missing += [f"no/folder/{number}.png" for number in range(count)] + ["loose.png/1.png"]
    paths = [*there, *missing, *missing, str(tmp_path / "loose.png")]
    listing = a_listing([(path, 0, "", "", 0) for path in paths], root=str(tmp_path))
    assert count_missing(listing) == len(missing)


def test_a_data_set_of_260_000_rows_is_counted_in_time():
    """260,000 rows of 34 classes and 6,642 clips, whose frames are not on disk, take under 3 s of this process."""
    random = np.random.default_rng(0)
    clip = np.sort(random.integers(0, 6642, 260_000))
    number, clips = (np.arange(260_000) * 49 // 50).tolist(), clip.tolist()
    listing = Listing(
        data_set="daa", variant="fold0", split="train", root="/nowhere", classes=tuple(f"c{i}" for i in range(34)),
        paths=tuple(f"vp{i % 10}/run1b.kinect_color/img_{j:06d}.png" for i, j in zip(clips, number, strict=True)),
        labels=random.integers(0, 34, 6642)[clip], clips=tuple(f"run/{i}" for i in clips),
        subjects=tuple(f"vp{i % 10}" for i in clips),
    )  # fmt: skip
    digests = random.integers(0, 256, (260_000, 32), dtype=np.uint8)
    start = time.process_time()
    found = count_contents([listing], missing={"train": count_missing(listing)}, digests={"train": digests})
    assert time.process_time() - start < 3
    assert found.splits["train"].rows == 260_000
    assert found.splits["train"].not_on_disk == found.splits["train"].images
    assert found.duplicates is not None


def extracted(cache, listing, digests, weights="ab"):
    """The listing as an extract would have committed it."""
    with new_store(cache, weights_sha256=weights * 32).writer() as writer:
        writer.commit(builders.extracted(listing, digests))


def test_digests_follow_their_paths(tmp_path):
    """A listing that has changed since it was extracted keeps the digests of the paths that it still has."""
    before = [("1.png", 0, "", "", 1), ("2.png", 0, "", "", 2), ("3.png", 1, "", "", 3)]
    extracted(tmp_path, a_listing(before), digests_of(before))
    now = a_listing([("3.png", 0, "", "", 0), ("9.png", 0, "", "", 0), ("1.png", 1, "", "", 0)])
    assert read_known_digests(tmp_path, [now, a_listing([], "val")])["train"][:, 0].tolist() == [3, 0, 1]


def test_the_store_that_knows_most_is_asked(tmp_path):
    """Where one store holds a part of a split and another all of it, the whole one's digests count."""
    found = [(f"{number}.png", 0, "", "", number) for number in range(1, 5)]
    extracted(tmp_path, a_listing(found[:2], part="limit 2"), digests_of(found[:2]))
    extracted(tmp_path, a_listing(found), digests_of(found), weights="cd")
    assert read_known_digests(tmp_path, [a_listing(found)])["train"][:, 0].tolist() == [1, 2, 3, 4]


def test_without_an_extract_there_is_nothing_to_know(tmp_path):
    """No cache, and a cache of other data sets, give no digests; `duplicates` is then None."""
    assert read_known_digests(tmp_path / "none", [a_listing([])]) == {}
    extracted(tmp_path, a_listing([("1.png", 0, "", "", 1)], data_set="other"), np.ones((1, 32), np.uint8))
    assert read_known_digests(tmp_path, [a_listing([("1.png", 0, "", "", 1)])]) == {}
    assert count_contents([a_listing([])]).duplicates is None


def test_a_damaged_cache_is_a_note(tmp_path):
    """The counts of a data set do not depend on the cache: one that cannot be read is said, and no more."""
    root = write_images(tmp_path / "digits", {"train": {"0": 2, "1": 1}})
    extracted(tmp_path, a_listing([("1.png", 0, "", "", 1)], data_set="digits"), np.ones((1, 32), np.uint8))
    (trunk,) = tmp_path.glob("stores/*/trunk.json")
    trunk.chmod(0o644)
    trunk.write_bytes(b"{}")
    found = describe(data=str(root), cache=tmp_path)
    assert (found.splits["train"].rows, found.splits["train"].not_on_disk, found.duplicates) == (3, 0, None)
    assert "trunk.json" in found.notes[0]
