"""What is in a data set, on the terminal and as CSV; and its near-duplicates."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.text import Text

from featcache.dataset import Contents, Duplicates, ImageInSplit, LabelConflict, NearDuplicates, SplitContents
from featcache.recipe import LABEL, LABELS, VALUE
from featcache.report.console import print_parts
from featcache.report.name_table import LEAST_NAME, NARROW, name_table
from featcache.report.tables import disarm_formula, save_rows
from featcache.text import UNDEFINED, bar, counted, percent, printable, shorten

SHOWN = 20  # near-duplicates
NAMED = 5  # of anything else that could go on
SLIVER = "▏"  # the least bar: there is something


def print_data_summary(summary: Contents, console: Console) -> None:
    """Print what is in a data set, an empty line between its parts.

    Args:
        summary: what is printed.
        console: where; its width decides what fits.
    """
    print_parts(summary_parts(summary, console.width), console)


def print_near_duplicates(near: NearDuplicates, console: Console) -> None:
    """Print the nearest pairs, and how many more there are.

    Args:
        near: what is printed.
        console: where; its width decides what fits.
    """
    print_parts(near_duplicates_parts(near, console.width), console)


def summary_parts(summary: Contents, width: int) -> list[RenderableType]:
    """Return the parts of a data set's summary, top to bottom, each at most `width` columns wide."""
    title = " · ".join(printable(name) for name in (summary.data_set, summary.variant))
    head = Group(Text(shorten(title, width), style="bold"), Text(printable(summary.root), overflow="fold"))
    parts: list[RenderableType] = [head, _splits(summary, width)]
    parts += [Text(f"note: {printable(note)}", style="bold red") for note in summary.notes]
    for name, split in summary.splits.items():
        parts.append(_classes(name, split, width))
        lines = list(_findings(split, width))
        if lines:
            parts.append(Group(*lines))
    if len(summary.splits) > 1:
        parts.append(_between(summary))
    parts.append(_duplicates(summary.duplicates, width))
    return parts


def near_duplicates_parts(near: NearDuplicates, width: int, shown: int = SHOWN) -> list[RenderableType]:
    """Return the summary, and the nearest pairs that are not byte for byte the same."""
    lines = [Text(f"near-duplicates: images with a cosine of {near.cosine:g} or more to one of another split", "bold")]
    for between in near.between:
        counts = [
            f"{count:,} of {counted(images, 'image')} of {printable(split)}"
            for split, count, images in zip(between.splits, between.near, between.images, strict=True)
        ]
        exact = f"; {counted(between.exact, 'image')} byte for byte the same" if between.exact else ""
        lines.append(Text(f"  {' and '.join(counts)}{exact}"))
    pairs = [pair for pair in near.pairs if not pair.exact]
    if not pairs:
        return [Group(*lines)]
    nearest = [Text("nearest first", "bold")]
    for pair in pairs[:shown]:
        for start, image in zip((f"{pair.cosine:.4f}", ""), pair.images, strict=True):
            nearest.append(_image_line(f"  {start:6}  ", image.split, image.path, width))
        labels = [image.label for image in pair.images]
        if labels[0] != labels[1]:
            nearest.append(Text(f"{'':10}labels: {_both_names(labels, width - 18)}"))
    if len(pairs) > shown:
        nearest.append(Text(f"  and {counted(len(pairs) - shown, 'pair')} more; --json and --csv FILE give all", "dim"))
    return [Group(*lines), Group(*nearest)]


def save_summary_csv(summary: Contents, path: Path) -> None:
    r"""Write one row a split and class: split, class, rows, share; UTF-8, lines end in \n, shares in 0 … 1.

    Args:
        summary: what is written.
        path: the file; an existing one is replaced.

    Raises:
        UsageError: the path does not end in .csv, its folder does not exist, or it is a folder.
        MachineError: it cannot be written; what was there before is untouched.
    """
    rows = (
        (disarm_formula(name), disarm_formula(label), count, count / split.rows if split.rows else "")
        for name, split in summary.splits.items()
        for label, count in split.classes.items()
    )
    save_rows(("split", "class", "rows", "share"), rows, path)


def save_near_duplicates_csv(near: NearDuplicates, path: Path) -> None:
    """Write one row a pair, nearest first: cosine, exact, then split, class and path of the one and of the other.

    Args:
        near: what is written.
        path: the file; an existing one is replaced.

    Raises:
        UsageError: as of `save_summary_csv`.
        MachineError: as of `save_summary_csv`.
    """
    rows = (
        (pair.cosine, int(pair.exact), *(disarm_formula(cell) for image in pair.images for cell in _cells(image)))
        for pair in near.pairs
    )
    header = ("cosine", "exact", "split", "class", "path", "other_split", "other_class", "other_path")
    save_rows(header, rows, path)


def _splits(summary: Contents, width: int) -> RenderableType:
    """Return one row a split, all its numbers."""
    narrow = width < NARROW
    kinds = {split.targets for split in summary.splits.values()}
    headings = (
        "rows",
        "images",
        "clips",
        "subj." if narrow else "subjects",
        "classes" if LABEL in kinds else "labels" if LABELS in kinds else "numbers",
        "imbal." if narrow else "imbalance",
    )
    rows = [
        (
            f"{split.rows:,}",
            f"{split.images:,}",
            f"{split.clips:,}" if split.clips else UNDEFINED,
            f"{split.subjects:,}" if split.subjects else UNDEFINED,
            f"{len(split.classes) - len(split.lacking):,}",
            _ratio(split),
        )
        for split in summary.splits.values()
    ]
    table = name_table("split", summary.splits, headings, rows, width)
    largest = "label" if LABELS in kinds else "class"
    imbalance = "" if VALUE in kinds else f"; imbalance: rows of the largest {largest} to those of the smallest"
    key = f"images: different paths{imbalance}"
    return Group(table, Text(key, "dim"))


def _classes(name: str, split: SplitContents, width: int) -> RenderableType:
    """Return one row a class (label, number), the largest first; a bar is as long as its share of the largest one."""
    if split.targets == VALUE:
        return _numbers(name, split, width)
    noun = "class" if split.targets == LABEL else "label"
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
    title = Text(f"{shorten(printable(name), width // 2)}: rows of each {noun}, largest first", "bold")
    return Group(title, name_table(noun, order, ("rows", "share", ""), rows, width))


def _numbers(name: str, split: SplitContents, width: int) -> RenderableType:
    """Return one row a number that is predicted: the lowest, the mean, the highest and the deviation."""
    rows = [
        [f"{value:.4g}" for value in (number.lowest, number.mean, number.highest, number.deviation)]
        for number in split.numbers.values()
    ]
    title = Text(f"{shorten(printable(name), width // 2)}: the numbers to predict", "bold")
    headings = ("lowest", "mean", "highest", "deviation")
    return Group(title, name_table("number", split.numbers, headings, rows, width))


def _findings(split: SplitContents, width: int) -> Iterator[Text]:
    """Yield what is odd in a split, a line each."""
    if split.shared_images:
        shared = f"{split.shared_images:,} of {counted(split.images, 'image')}"
        yield Text(f"  {shared} {_appear(split.shared_images)} in two or more rows")
    if split.conflicting_images:
        yield Text(f"  {split.conflicting_images:,} of them under two or more labels:", "bold")
        yield from _conflicts(split.conflicts, width)
    if split.lacking and split.targets != VALUE:
        named = ", ".join(map(printable, split.lacking[:NAMED])) + (", …" if len(split.lacking) > NAMED else "")
        noun = "class" if split.targets == LABEL else "label"
        yield Text(f"  lacks {counted(len(split.lacking), noun)}: {named}")
    if split.videos is not None:
        yield Text(f"  images are frames of {counted(split.videos, 'video')}")
    if split.containers is not None:
        yield Text(f"  images stand in {counted(split.containers, 'container')}")
    if split.not_on_disk:
        verb = "is" if split.not_on_disk == 1 else "are"
        yield Text(f"  {split.not_on_disk:,} of {counted(split.images, 'image')} {verb} not on disk yet")
    if split.ignored:
        named = ", ".join(map(printable, split.ignored[:NAMED])) + (", …" if len(split.ignored) > NAMED else "")
        yield Text(f"  {counted(len(split.ignored), 'file')} ignored, whose names are not those of images: {named}")


def _conflicts(conflicts: Sequence[LabelConflict], width: int) -> Iterator[Text]:
    """Yield the pairs of labels that one image has, most images first."""
    for conflict in conflicts[:NAMED]:
        yield Text(f"  {conflict.images:>7,} {_both_names(conflict.labels, width - 10)}")
    if len(conflicts) > NAMED:
        yield Text(f"  {'':7} and {counted(len(conflicts) - NAMED, 'more pair')} of labels: --json names all", "dim")


def _between(summary: Contents) -> RenderableType:
    """Return what two splits share."""
    lines = [Text("between the splits", "bold")]
    lines += [Text(f"  {printable(str(leak))}", "bold red") for leak in summary.leaks]
    if not summary.leaks:
        crossing = sum(summary.duplicates.across_splits.values()) if summary.duplicates else 0
        noun = "path" if summary.duplicates is None or crossing else "image"  # one image may have two paths
        named = (
            [split.clips for split in summary.splits.values()],
            [split.subjects for split in summary.splits.values()],
        )
        kinds = [noun, *(kind for kind, counts in zip(("clip", "subject"), named, strict=True) if any(counts))]
        unnamed = [f"{kind}s" for kind in ("clip", "subject") if kind not in kinds]
        listed = " or ".join(filter(None, [", ".join(kinds[:-1]), kinds[-1]]))
        lines.append(Text(f"  no {listed} appears in two splits"))
        if crossing:
            images = f"{counted(crossing, 'image')} {_appear(crossing)}"
            lines.append(Text(f"  {images} in two splits under different paths: see below", "bold red"))
        if unnamed:
            lines.append(Text(f"  (the data set names no {' or '.join(unnamed)})", "dim"))
    return Group(*lines)


def _duplicates(duplicates: Duplicates | None, width: int) -> RenderableType:
    """Return the images that are the same, byte for byte."""
    title = Text("exact duplicates: the same bytes under different paths", "bold")
    if duplicates is None:
        return Group(title, Text("  not known before `featcache extract`, which hashes what it reads"))
    lines = [title]
    out_of = f"of {counted(duplicates.images, 'image')} as last extracted"
    if not duplicates.repeated:
        return Group(title, Text(f"  none, {out_of}"))
    noun = "image" if duplicates.repeated == 1 else "different image"
    repeated = f"{counted(duplicates.repeated, noun)} {_appear(duplicates.repeated)}"
    lines.append(Text(f"  {repeated} under two or more paths ({out_of})"))
    for (first, second), count in duplicates.across_splits.items():
        if count:
            lines.append(Text(f"  {count:,} in {printable(first)} and in {printable(second)}", "bold red"))
    if duplicates.conflicting:
        lines.append(Text(f"  {duplicates.conflicting:,} under two or more labels:", "bold"))
        lines += _conflicts(duplicates.conflicts, width)
    for group in duplicates.groups[:NAMED]:
        places = list(dict.fromkeys((copy.split, copy.path) for copy in group))  # once, under however many labels
        for number, (split, path) in enumerate(places[:NAMED]):
            lines.append(_image_line("    " if number else "  = ", split, path, width))
        if len(places) > NAMED:
            lines.append(Text(f"    and {len(places) - NAMED:,} more", "dim"))
    if len(duplicates.groups) > NAMED:
        lines.append(Text(f"  and {len(duplicates.groups) - NAMED:,} more such groups: --json names all", "dim"))
    return Group(*lines)


def _image_line(start: str, split: str, path: str, width: int) -> Text:
    """Return the line that names an image and its split, which the path of an image folder begins with."""
    shown = printable(path) if path.startswith(f"{split}/") else f"{printable(split)}: {printable(path)}"
    return Text(start + shorten(shown, max(LEAST_NAME, width - len(start))))


def _both_names(labels: Sequence[str], width: int) -> str:
    """Return two names in at most `width` cells, the room shared between them."""
    first, second = (printable(label) for label in labels)
    room = width - len(" and ")
    half = max(LEAST_NAME, room // 2)
    return (
        f"{shorten(first, max(half, room - cell_len(second)))} and {shorten(second, max(half, room - cell_len(first)))}"
    )


def _cells(image: ImageInSplit) -> tuple[str, str, str]:
    return image.split, image.label, image.path


def _ratio(split: SplitContents) -> str:
    if split.imbalance is None:
        return UNDEFINED
    return f"{split.imbalance:,.0f}:1" if split.imbalance >= 10 else f"{split.imbalance:.1f}:1"


def _share(count: int, total: int) -> str:
    if not count:
        return UNDEFINED
    return percent(count / total) if count >= 0.0005 * total else f"<{percent(0.001)}"


def _appear(count: int) -> str:
    return "appears" if count == 1 else "appear"
