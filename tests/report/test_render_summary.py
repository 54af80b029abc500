"""What is in a data set, and its near-duplicates, on the terminal and as CSV."""

import csv
import io
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console

from featcache.dataset.duplicates import Duplicates, ImageInSplit
from featcache.dataset.near_duplicate_search import NearDuplicates, NearPair, SplitComparison
from featcache.dataset.summary import count_contents
from featcache.listing.listing import Listing
from featcache.report.render_summary import (
    print_data_summary,
    print_near_duplicates,
    save_near_duplicates_csv,
    save_summary_csv,
)
from tests.builders import DRIVE_ACT, HOSTILE

GONE = DRIVE_ACT.index("opening_backpack")


@pytest.fixture(autouse=True)
def no_colour_asked_for(monkeypatch):
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)


def a_listing(split, labels, paths, clips, subjects, **fields):
    named = {"data_set": "daa", "variant": "fold0-kinect_color-49", "root": "/data/drive_act", "classes": DRIVE_ACT}
    return Listing(
        split=split, labels=np.array(labels, dtype=np.int64), paths=tuple(paths), clips=tuple(clips),
        subjects=tuple(subjects), **{**named, **fields},
    )  # fmt: skip


def drive_act():
    """Two splits that share a subject; train has frames in two chunks, some under two activities; val lacks a class."""
    random = np.random.default_rng(0)
    listings = []
    for split, rows, people in (("train", 60_000, (1, 2, 3)), ("val", 9_000, (3, 4))):
        labels = np.sort(np.minimum(random.geometric(0.09, rows) - 1, 33))
        labels[labels == GONE] = (GONE + 1) if split == "val" else GONE
        paths = [f"{split}/{row - row % 97 % 2}.png" for row in range(rows)]
        people = random.choice(people, rows).tolist()
        clips = [f"{split}-{label}" for label in labels.tolist()]
        listings.append(a_listing(split, labels, paths, clips, [f"vp{number}" for number in people]))
    digests = {"val": np.repeat(np.arange(3000, dtype=np.uint32), 3 * 8).view(np.uint8).reshape(9000, 32)}
    return count_contents(listings, missing={"train": 12, "val": 0}, digests=digests, notes=("something is odd",))


def hostile():
    """Names from strangers wherever a name can stand."""
    count = len(HOSTILE)
    listings = [
        a_listing(
            split, [*range(count), 0], [*HOSTILE, HOSTILE[1]], [*HOSTILE, ""], [*HOSTILE, ""], classes=HOSTILE,
            data_set="\x1b[2J", variant="[/]", root="/\u202edata\n", ignored=HOSTILE,
        )
        for split in ("train", "[red]\x07")
    ]  # fmt: skip
    digests = {listing.split: np.ones((count + 1, 32), np.uint8) for listing in listings}
    return count_contents(listings, missing={"train": 3}, digests=digests, notes=("[red]\x07",))


def near(pairs=30, names=("train", "val"), path="run1/img_000123.png", label="eating"):
    found = []
    for number in range(pairs):
        images = ImageInSplit(names[0], f"{number}/{path}", label), ImageInSplit(names[1], path, DRIVE_ACT[number])
        found.append(NearPair(1 - number / 1000, number < 3, images))
    return NearDuplicates(
        0.95, "store", (SplitComparison(names, (1000, 200), (pairs, 25), min(3, pairs)),), tuple(found)
    )


def drawn(draw_it, found, width, **options):
    out = io.StringIO()
    draw_it(found, Console(file=out, width=width, highlight=False, markup=False, emoji=False, **options))
    return out.getvalue()


EVERY = [
    (print_data_summary, drive_act()),
    (print_data_summary, hostile()),
    (print_near_duplicates, near()),
    (print_near_duplicates, near(0)),
]
EVERY += [(print_near_duplicates, near(14, ("[/]", "\x1b[31m"), name, name)) for name in HOSTILE]


@pytest.mark.parametrize("width", [100, 60, 40])
@pytest.mark.parametrize(("draw_it", "found"), EVERY)
def test_every_line_fits_and_is_inert(draw_it, found, width):
    """No line is wider than the terminal, and no name, however hostile, puts a control character into one."""
    lines = drawn(draw_it, found, width).splitlines()
    assert max(map(cell_len, lines)) <= width
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("width", [100, 60])
def test_every_class_has_a_line_with_its_count_its_share_and_a_bar(width):
    """Most rows first, figures in full at any width, a bar as long as the share of the largest; no rows, no bar."""
    found = drive_act().splits["val"]
    text = drawn(print_data_summary, drive_act(), width)
    section = text[text.index("val: rows of each class") :].splitlines()[3:37]
    counts = sorted(found.classes.values(), reverse=True)
    bars = [line.count("█") for line in section]
    for line, count in zip(section, counts, strict=True):
        assert f" {count:,} " in line
        assert (f"{100 * count / 9000:.1f} %" in line) == (count >= 5)
        assert any(block in line for block in "█▉▊▋▌▍▎▏") == (count > 0)
    assert bars == sorted(bars, reverse=True)
    assert section[-1].split()[0] == "opening_backpack"
    assert "no rows" in section[-1]


def test_what_is_odd_is_said():
    """Shared and conflicting images, a lacking class, files that are not there, a shared subject, copies."""
    found = drive_act()
    text = " ".join(drawn(print_data_summary, found, 200).split())
    train = found.splits["train"]
    assert f"{train.shared_images:,} of {train.images:,} images appear in two or more rows" in text
    assert f"{train.conflicting_images:,} of them under two or more labels" in text
    assert train.conflicting_images
    first = train.conflicts[0]
    assert f"{first.images} {first.labels[0]} and {first.labels[1]}" in text
    assert "lacks 1 class: opening_backpack" in text
    assert f"12 of {train.images:,} images are not on disk yet" in text
    assert text.count("not on disk") == 1
    assert "'train' and 'val' share 1 subject (vp3)" in text
    assert f"{found.duplicates.repeated:,} different images appear under two or more paths" in text
    assert "note: something is odd" in text


def test_nothing_odd_is_a_few_lines():
    """A clean image folder says that nothing stands in two splits, which names it has none of, and no more."""
    clean = [
        a_listing(split, [0, 1], [f"{split}/a/1.png", f"{split}/b/1.png"], ("", ""), ("", ""), classes=("a", "b"))
        for split in ("train", "val")
    ]
    text = drawn(print_data_summary, count_contents(clean, missing={"train": 0, "val": 0}), 100)
    assert "  no path appears in two splits\n  (the data set names no clips or subjects)\n" in text
    assert "not known before `featcache extract`" in text
    assert "rows\n" not in text.split("between")[1]
    assert not any(word in text for word in ("lacks", "not on disk", "ignored", "two or more rows"))


def test_an_image_under_two_paths_is_never_said_to_stand_in_one_split_alone():
    """Where equal bytes stand in two splits, no line says that no image does."""
    clean = [a_listing(split, [0], [f"{split}/a/1.png"], ("",), ("",), classes=("a",)) for split in ("train", "val")]
    copies = Duplicates(2, 1, 1, {("train", "val"): 1}, 0, (), ())
    summary = replace(count_contents(clean, missing={"train": 0, "val": 0}), duplicates=copies)
    text = drawn(print_data_summary, summary, 100)
    assert "no image" not in text
    assert "no path appears in two splits\n  1 image appears in two splits under different paths: see below" in text
    assert "1 in train and in val" in text


def test_the_nearest_are_shown_and_the_rest_is_counted():
    """Twenty pairs that differ in their bytes, nearest first, with both places; labels only where they differ."""
    text = drawn(print_near_duplicates, near(), 100)
    assert "30 of 1,000 images of train and 25 of 200 images of val; 3 images byte for byte the same" in text
    shown = [line.split()[0] for line in text.splitlines() if line.startswith("  0.9")]
    assert shown == [f"{1 - number / 1000:.4f}" for number in range(3, 23)]
    assert "  0.9970  train: 3/run1/img_000123.png\n          val: run1/img_000123.png\n" in text
    assert text.count("labels: eating and ") == 19  # one of the twenty is eating on both sides
    assert "and 7 pairs more; --json and --csv FILE give all" in text


def rows_of(path):
    return list(csv.reader(io.StringIO(path.read_bytes().decode("utf-8"), newline="")))


def test_the_csv_has_a_row_for_each_class_of_each_split(tmp_path):
    """split, class, rows, share: those without a row too, at full precision."""
    found = drive_act()
    save_summary_csv(found, tmp_path / "data.csv")
    head, *rows = rows_of(tmp_path / "data.csv")
    assert head == ["split", "class", "rows", "share"]
    assert Counter(row[0] for row in rows) == {"train": 34, "val": 34}
    assert {row[1]: int(row[2]) for row in rows if row[0] == "val"} == found.splits["val"].classes
    assert sum(float(row[3]) for row in rows) == pytest.approx(2)


def test_the_csv_of_pairs_has_them_all(tmp_path):
    """One row a pair, nearest first, those with equal bytes too, with split, class and path of either image."""
    save_near_duplicates_csv(near(), tmp_path / "near.csv")
    head, *rows = rows_of(tmp_path / "near.csv")
    assert head == ["cosine", "exact", "split", "class", "path", "other_split", "other_class", "other_path"]
    assert len(rows) == 30
    assert rows[0] == [
        "1.0", "1", "train", "eating", "0/run1/img_000123.png", "val", "closing_bottle", "run1/img_000123.png",
    ]  # fmt: skip


def test_names_in_the_csv_are_inert(tmp_path):
    """A row is a line whatever the names are, and none is a formula to a spreadsheet."""
    save_summary_csv(hostile(), tmp_path / "data.csv")
    save_near_duplicates_csv(near(1, ("=cmd", "@x"), "\n=1", "=1+1"), tmp_path / "near.csv")
    lines = (tmp_path / "data.csv").read_text("utf-8").splitlines()
    assert len(lines) == 1 + 2 * len(HOSTILE)
    cells = [cell for name in ("data.csv", "near.csv") for row in rows_of(tmp_path / name) for cell in row]
    assert all(cell.isprintable() and not cell.startswith(("=", "+", "-", "@")) for cell in cells)
