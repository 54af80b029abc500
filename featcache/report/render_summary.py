"""What is in a data set, on the terminal and as CSV; and its near-duplicates."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rich import box
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from featcache.dataset import Conflict, Contents, Duplicates, Image, NearDuplicates, SplitContents
from featcache.report.tables import check_destination, inert, save_bytes
from featcache.report.text import bar, printable, shorten

NARROW = 80  # columns; under it words and gaps are shorter
SHOWN = 20  # near-duplicates
NAMED = 5  # of anything else that could go on
LEAST_NAME = 8  # cells
NOTHING = "–"
SLIVER = "▏"  # the least bar: there is something


def render_data_summary(contents: Contents, console: Console) -> None:
    """Print what is in a data set, an empty line between its parts."""
    _print(render(contents, console.width), console)


def render_near_duplicates(found: NearDuplicates, console: Console) -> None:
    """Print the nearest pairs, and how many more there are."""
    _print(render_near(found, console.width), console)


def render(contents: Contents, width: int) -> list[RenderableType]:
    """The parts, top to bottom, each at most `width` columns wide."""
    title = " · ".join(printable(name) for name in (contents.data_set, contents.variant))
    head = Group(Text(shorten(title, width), style="bold"), Text(printable(contents.root), overflow="fold"))
    parts: list[RenderableType] = [head, _splits(contents, width)]
    parts += [Text(f"note: {printable(note)}", style="bold red") for note in contents.notes]
    for name, split in contents.splits.items():
        parts.append(_classes(name, split, width))
        lines = list(_findings(split, width))
        if lines:
            parts.append(Group(*lines))
    if len(contents.splits) > 1:
        parts.append(_between(contents))
    parts.append(_duplicates(contents.duplicates, width))
    return parts


def render_near(found: NearDuplicates, width: int, shown: int = SHOWN) -> list[RenderableType]:
    """The summary, and the nearest pairs that are not byte for byte the same."""
    lines = [Text(f"near-duplicates: images with a cosine of {found.cosine:g} or more to one of another split", "bold")]
    for one in found.between:
        of = [
            f"{near:,} of {_many(images, 'image')} of {printable(split)}"
            for split, near, images in zip(one.splits, one.near, one.images, strict=True)
        ]
        exact = f"; {_many(one.exact, 'image')} byte for byte the same" if one.exact else ""
        lines.append(Text(f"  {' and '.join(of)}{exact}"))
    pairs = [pair for pair in found.pairs if not pair.exact]
    if not pairs:
        return [Group(*lines)]
    nearest = [Text("nearest first", "bold")]
    for pair in pairs[:shown]:
        for start, image in zip((f"{pair.cosine:.4f}", ""), pair.images, strict=True):
            nearest.append(_place(f"  {start:6}  ", image.split, image.path, width))
        labels = [image.label for image in pair.images]
        if labels[0] != labels[1]:
            nearest.append(Text(f"{'':10}labels: {_two(labels, width - 18)}"))
    if len(pairs) > shown:
        nearest.append(Text(f"  and {_many(len(pairs) - shown, 'pair')} more; --json and --csv FILE give all", "dim"))
    return [Group(*lines), Group(*nearest)]


def save_summary_csv(contents: Contents, path: Path) -> None:
    r"""Write one row a split and class: split, class, rows, share; UTF-8, lines end in \n, shares in 0 … 1.

    Raises:
        UsageError: the path does not end in .csv, its folder does not exist, or it is a folder.
        MachineError: it cannot be written; what was there before is untouched.
    """
    rows = (
        (inert(name), inert(label), count, count / split.rows if split.rows else "")
        for name, split in contents.splits.items()
        for label, count in split.classes.items()
    )
    _save(("split", "class", "rows", "share"), rows, path)


def save_near_duplicates_csv(found: NearDuplicates, path: Path) -> None:
    """Write one row a pair, nearest first: cosine, exact, then split, class and path of the one and of the other.

    Raises:
        UsageError, MachineError: as `save_csv`.
    """
    rows = (
        (pair.cosine, int(pair.exact), *(inert(cell) for image in pair.images for cell in _cells(image)))
        for pair in found.pairs
    )
    head = ("cosine", "exact", "split", "class", "path", "other_split", "other_class", "other_path")
    _save(head, rows, path)


def _splits(contents: Contents, width: int) -> RenderableType:
    """One row a split, all its numbers."""
    narrow = width < NARROW
    heads = (
        "rows",
        "images",
        "clips",
        "subj." if narrow else "subjects",
        "classes",
        "imbal." if narrow else "imbalance",
    )
    rows = [
        (
            f"{split.rows:,}",
            f"{split.images:,}",
            f"{split.clips:,}" if split.clips else NOTHING,
            f"{split.subjects:,}" if split.subjects else NOTHING,
            f"{len(split.classes) - len(split.lacking):,}",
            _ratio(split),
        )
        for split in contents.splits.values()
    ]
    table = _table("split", contents.splits, heads, rows, width)
    key = "images: different paths; imbalance: rows of the largest class to those of the smallest"
    return Group(table, Text(key, "dim"))


def _classes(name: str, split: SplitContents, width: int) -> RenderableType:
    """One row a class, the largest first; a bar is as long as the class's share of the largest one."""
    largest = max(split.classes.values(), default=0)
    order = sorted(split.classes, key=lambda label: -split.classes[label])  # stable: then as they are numbered
    cells = 12 if width < NARROW else 24
    rows = [
        (
            f"{split.classes[label]:,}",
            _share(split.classes[label], split.rows),
            bar(split.classes[label] / largest, cells) or SLIVER if split.classes[label] else "no rows",
        )
        for label in order
    ]
    title = Text(f"{shorten(printable(name), width // 2)}: rows of each class, most first", "bold")
    return Group(title, _table("class", order, ("rows", "share", ""), rows, width))


def _table(
    first: str, names: Iterable[str], heads: Sequence[str], rows: Sequence[Sequence[str]], width: int
) -> RenderableType:
    """A table of names, cut to what the width leaves, and figures, which are never cut."""
    padding = 0 if width < NARROW else 1  # and the box sets one column between any two
    taken = sum(max(map(cell_len, column)) + 1 + padding for column in zip(heads, *rows, strict=True))
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, padding, 0, 0))
    table.add_column(first, no_wrap=True)
    for head in heads:
        table.add_column(head, justify="right" if head else "left", no_wrap=True)
    for name, row in zip(names, rows, strict=True):
        shown = Text(shorten(printable(name), max(LEAST_NAME, width - taken)))
        table.add_row(shown, *(Text(cell) for cell in row), style="dim" if row[0] == "0" else "")
    return table


def _findings(split: SplitContents, width: int) -> Iterator[Text]:
    """What is odd in a split, a line each."""
    if split.shared_images:
        of = f"{split.shared_images:,} of {_many(split.images, 'image')}"
        yield Text(f"  {of} {_stand(split.shared_images)} in two or more rows")
    if split.conflicting_images:
        yield Text(f"  {split.conflicting_images:,} of them under two or more labels:", "bold")
        yield from _conflicts(split.conflicts, width)
    if split.lacking:
        named = ", ".join(map(printable, split.lacking[:NAMED])) + (", …" if len(split.lacking) > NAMED else "")
        yield Text(f"  lacks {_many(len(split.lacking), 'class')}: {named}")
    if split.videos is not None:
        yield Text(f"  images are frames of {_many(split.videos, 'video')}")
    if split.not_on_disk:
        verb = "is" if split.not_on_disk == 1 else "are"
        yield Text(f"  {split.not_on_disk:,} of {_many(split.images, 'image')} {verb} not on disk yet")
    if split.ignored:
        named = ", ".join(map(printable, split.ignored[:NAMED])) + (", …" if len(split.ignored) > NAMED else "")
        yield Text(f"  {_many(len(split.ignored), 'file')} not taken for images: {named}")


def _conflicts(conflicts: Sequence[Conflict], width: int) -> Iterator[Text]:
    for conflict in conflicts[:NAMED]:
        yield Text(f"  {conflict.images:>7,} {_two(conflict.labels, width - 10)}")
    if len(conflicts) > NAMED:
        yield Text(f"  {'':7} and {_many(len(conflicts) - NAMED, 'more pair')} of labels: --json names all", "dim")


def _between(contents: Contents) -> RenderableType:
    lines = [Text("between the splits", "bold")]
    lines += [Text(f"  {printable(str(cut))}", "bold red") for cut in contents.cuts]
    if not contents.cuts:
        named = (
            [split.clips for split in contents.splits.values()],
            [split.subjects for split in contents.splits.values()],
        )
        kinds = ["image", *(kind for kind, counts in zip(("clip", "subject"), named, strict=True) if any(counts))]
        unnamed = [kind for kind in ("clip", "subject") if kind not in kinds]
        lines.append(Text(f"  no {' and no '.join(kinds)} stands in two splits"))
        if unnamed:
            lines.append(Text(f"  (the data set names no {' and no '.join(unnamed)})", "dim"))
    return Group(*lines)


def _duplicates(found: Duplicates | None, width: int) -> RenderableType:
    title = Text("exact duplicates: the same bytes under different paths", "bold")
    if found is None:
        return Group(title, Text("  not known before `featcache extract`, which hashes what it reads"))
    lines = [title]
    of = f"of {_many(found.images, 'image')} as last extracted"
    if not found.repeated:
        return Group(title, Text(f"  none, {of}"))
    lines.append(Text(f"  {_many(found.repeated, 'content')} {_stand(found.repeated)} under two or more paths ({of})"))
    for (one, other), count in found.across_splits.items():
        if count:
            lines.append(Text(f"  {count:,} in {printable(one)} and in {printable(other)}", "bold red"))
    if found.conflicting:
        lines.append(Text(f"  {found.conflicting:,} under two or more labels:", "bold"))
        lines += _conflicts(found.conflicts, width)
    for group in found.groups[:NAMED]:
        places = list(dict.fromkeys((copy.split, copy.path) for copy in group))  # once, under however many labels
        for number, (split, path) in enumerate(places[:NAMED]):
            lines.append(_place("    " if number else "  = ", split, path, width))
        if len(places) > NAMED:
            lines.append(Text(f"    and {len(places) - NAMED:,} more", "dim"))
    if len(found.groups) > NAMED:
        lines.append(Text(f"  and {len(found.groups) - NAMED:,} more such groups: --json names all", "dim"))
    return Group(*lines)


def _place(start: str, split: str, path: str, width: int) -> Text:
    """An image where it stands; an image folder's path begins with its split and says it already."""
    shown = printable(path) if path.startswith(f"{split}/") else f"{printable(split)}: {printable(path)}"
    return Text(start + shorten(shown, max(LEAST_NAME, width - len(start))))


def _two(labels: Sequence[str], width: int) -> str:
    """Two names in at most `width` cells, the room shared between them."""
    one, other = (printable(label) for label in labels)
    room = width - len(" and ")
    half = max(LEAST_NAME, room // 2)
    return f"{shorten(one, max(half, room - cell_len(other)))} and {shorten(other, max(half, room - cell_len(one)))}"


def _cells(image: Image) -> tuple[str, str, str]:
    return image.split, image.label, image.path


def _ratio(split: SplitContents) -> str:
    if split.imbalance is None:
        return NOTHING
    return f"{split.imbalance:,.0f}:1" if split.imbalance >= 10 else f"{split.imbalance:.1f}:1"


def _share(count: int, total: int) -> str:
    if not count:
        return NOTHING
    return f"{100 * count / total:.1f} %" if count >= 0.0005 * total else "<0.1 %"


def _stand(count: int) -> str:
    return "stands" if count == 1 else "stand"


def _many(count: int, noun: str) -> str:
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"1 {noun}" if count == 1 else f"{count:,} {plural}"


def _save(head: Sequence[str], rows: Iterable[Sequence[object]], path: Path) -> None:
    check_destination(path, ".csv")
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(head)
    table.writerows(rows)
    save_bytes(path, text.getvalue().encode())


def _print(parts: Iterable[RenderableType], console: Console) -> None:
    for number, part in enumerate(parts):
        if number:
            console.print()
        console.print(part)
