"""A recipe to start from: what `featcache init` writes for a folder, as commented TOML, and what it says of it."""

import json
import os
import shlex
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from featcache.dataset.video_table import PER_SECOND, VideoTable, tabulate_videos
from featcache.errors import DataError
from featcache.listing import (
    VIDEO_SUFFIXES,
    RecognizedData,
    RecognizedTable,
    has_one_target,
    has_split_name,
    recognize_data,
    usual_view,
)
from featcache.media import has_video_decoder
from featcache.recipe import DRIVE_ACT_RECIPE, LABEL, LABELS, LEVELS, LOCAL_RECIPE, VALUE, name_after
from featcache.text import counted

_NAMED = 5  # classes in a sentence
_TARGET_WORDS = {LABEL: "label", LABELS: "several labels", VALUE: "numbers"}

_OPTIONAL = """\
# What is left out has its default. Take a # away to type a setting; `featcache extract --help` and
# `featcache fit-head --help` describe them all. Other weights than the published ones belong here, for all commands.
# [trunk]
# arch = "vit_b_16"           # the network
# weights = "IMAGENET1K_V1"   # a published name, the path of a .pth or .safetensors file, or "random"
"""
_OPTIONAL_HEAD = """\
# [head]
# lr = [0.003, 0.01, 0.03]    # these instead of the small grid that is the default; the best on val is kept
# epochs = 90
"""


@dataclass(frozen=True, slots=True)
class StarterRecipe:
    """A recipe that was written for what lies in a folder."""

    text: str  # of featcache.toml
    settings: str  # its lines that say which data set it is, without those for everything else
    understood: str  # what was recognised, as a sentence
    command: str  # what to type next
    notes: tuple[str, ...] = ()  # what a person should know beside that, as sentences
    table: tuple[str, str] | None = None  # a table that the recipe names, to be written beside it: its name and text


def write_starter(path: str) -> StarterRecipe:
    """Return a recipe for what lies in a folder, or for a table.

    Args:
        path: The folder, or the table, as it was typed.

    Raises:
        DataError: nothing in it is known; or a table whose columns do not say which are the paths and the labels: the
            message has a recipe to complete.
    """
    data = recognize_data(path)
    is_container = data.kind == "containers"  # the name is that which it has where --data names it
    name = DRIVE_ACT_RECIPE if data.kind == "drive-act" else name_after(data.path, is_container=is_container)
    if data.kind == "videos" and (videos := tabulate_videos(data.path)) is not None:
        return _start_with_videos(data, name, videos)
    settings = _write_settings(name, _data_lines(data))
    if data.table.missing:
        raise _unknown_columns_error(data, settings)
    understood = _describe(data)
    command = _frames_command(data.path) if data.kind == "videos" else "featcache data"
    text = _write_recipe(understood, settings, has_head=data.kind == "drive-act")
    return StarterRecipe(text, settings, understood, command)


def _unknown_columns_error(data: RecognizedData, settings: str) -> DataError:
    """Return the error of a table whose columns do not say what they are, with a recipe for it to complete."""
    missing, header = data.table.missing, ", ".join([*data.table.columns.values(), *data.table.others])
    names = " and ".join(f"{role}_column" for role in missing)
    return DataError(
        f"{data.path}: which column holds the {'s and the '.join(missing)}s? None of {header} is called like it. Write "
        f"these lines into {LOCAL_RECIPE}, with the right {names}; `featcache data` then shows what they mean:\n"
        f"{textwrap.indent(settings, '  ')}"
    )


def _write_settings(name: str, data_lines: list[str]) -> str:
    """Return the lines of a recipe that say which data set it is."""
    return "\n".join([f"name = {_quoted(name)}   # the data set's name in the cache", "", "[data]", *data_lines])


def _write_recipe(understood: str, settings: str, *, has_head: bool) -> str:
    """Return the text of a recipe; without a [head] section of its own it ends in one that is commented out."""
    lines = [
        f"# {understood}",
        "# featcache data, extract, fit-head and report read this file in the folder where they are typed.",
        settings,
    ]
    return "\n".join([*lines, "", _OPTIONAL] + ([] if has_head else [_OPTIONAL_HEAD]))


def _start_with_videos(data: RecognizedData, name: str, videos: VideoTable) -> StarterRecipe:
    """Return a recipe for videos that are decoded here, with the table of their frames."""
    where = "with splits" if has_split_name(data.names) else "without splits"
    understood = (
        f"{data.path}: {counted(videos.videos, 'video')} in folders of {counted(len(videos.classes), 'class')} "
        f"({_name_some(videos.classes)}), {where}. Its table has "
        f"{videos.frames:,} frames, {PER_SECOND} of each second."
    )
    table = f"{name}-frames.csv"
    lines = [
        'layout = "table"',
        'root = "."',
        f"table = {_quoted(table)}   # a row for each frame: path#number, label, clip; add or remove rows as you like",
        *([] if has_split_name(data.names) else _split_section("clip", val=True, test=True, clip="a video")),
    ]
    left_out = [f"left out: {video}" for video in videos.left_out[:_NAMED]]
    if len(videos.left_out) > _NAMED:
        left_out.append(f"left out: {counted(len(videos.left_out) - _NAMED, 'video')} more")
    settings = _write_settings(name, lines)
    text = _write_recipe(understood, settings, has_head=False)
    return StarterRecipe(text, settings, understood, "featcache data", tuple(left_out), (table, videos.text))


def _name_some(names: Sequence[str]) -> str:
    """Return the first few names, and how many more there are."""
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else "")


def _describe(data: RecognizedData) -> str:
    """Return what was recognised, as one sentence."""
    if data.kind == "splits":
        return f"{data.path}: images in folders, with the splits {', '.join(data.names)}."
    if data.kind == "classes":
        return f"{data.path}: images in a folder for each class ({_name_some(data.names)}), without splits."
    if data.kind == "drive-act":
        return f"{data.path}: Drive&Act, with the annotations of {', '.join(data.names)} ({', '.join(data.levels)})."
    if data.kind == "table":
        return f"{data.path}: a table of images ({', '.join(_describe_columns(data.table))})."
    if data.kind == "containers":
        splits = f", with the splits {', '.join(data.names)}" if data.names else ""
        return f"{data.path}: images inside other files{splits}."
    needed = "" if has_video_decoder() else " With `pip install 'featcache[av]'`, init makes a table of them instead."
    return f"{data.path}: videos, of which featcache reads frames that were written as images.{needed}"


def _data_lines(data: RecognizedData) -> list[str]:
    """Return the lines of [data]."""
    if data.kind == "drive-act":
        return [
            'layout = "drive-act"',
            _root(data.path),
            f"view = {_quoted(usual_view(data.names))}   # here: {', '.join(data.names)}",
            *_level_lines(data),
            "fold = 0                # 0, 1 or 2; --fold and --folds 0,1,2 take its place",
            "frames_per_chunk = 49   # a chunk's first frames; 49 gives the published counts",
            "# stride = 15           # of those, every fifteenth",
            "",
            "[head]   # that of the published baseline",
            "lr = [0.003]",
            "batch_size = 1024",
            "epochs = 90",
        ]
    if data.kind == "table":
        folder, table = os.path.split(data.path)
        lines = ['layout = "table"', _root(folder or "."), f"table = {_quoted(table)}"]
        return [*lines, *_column_lines(data.table), *_split_lines(data)]
    if data.kind == "containers":
        columns = ['# label_column = "label"   # where the labels stand, if they are called otherwise']
        return ['layout = "container"', _root(data.path), *columns, *_split_lines(data)]
    if data.kind == "videos":
        return [
            'root = "frames"   # <class>/<video>/<number>.jpg: write the frames there first, two a second, by',
            *(f"#   {line}" for line in _frames_command(data.path).split("\n")),
            *([] if has_split_name(data.names) else _split_section("clip", val=True, test=True)),
        ]
    layout = "<split>/<class>/…/image" if data.kind == "splits" else "<class>/…/image"
    return [f"{_root(data.path)}   # {layout}", *_split_lines(data)]


def _describe_columns(table: RecognizedTable) -> Iterator[str]:
    """Yield what is in each column of a table that is read: "path in 'file'"."""
    for role, column in table.columns.items():
        yield f"{_TARGET_WORDS[table.targets] if role == 'label' else role} in {column!r}"
    if table.target_columns:
        yield f"{_TARGET_WORDS[table.targets]} in {', '.join(map(repr, table.target_columns))}"


def _column_lines(table: RecognizedTable) -> list[str]:
    """Return the lines of a table's columns, and of what its rows have to be predicted where that is not one class."""
    columns = {role: column for role, column in table.columns.items() if role != "label"}
    lines = [f"{role}_column = {_quoted(column)}" for role, column in columns.items()]
    others = f"   # one of {', '.join(table.others)}"
    lines += [f'{role}_column = "…"{others}' for role in table.missing]
    if table.target_columns:
        notes = {LABELS: "several labels, each a column of 0 and 1", VALUE: "numbers"}
        return [
            *lines,
            f'targets = "{table.targets}"   # {notes[table.targets]}',
            _target_columns(table.target_columns),
        ]
    if "label" not in table.columns:
        return [*lines, '# or, in place of label_column: targets = "value" or "labels", and target_columns = [ … ]']
    label = table.columns["label"]
    if table.targets == VALUE:
        note = "   # numbers; for classes: label_column in place of these two lines"
        return [*lines, f'targets = "value"{note}', _target_columns([label])]
    lines.append(f"label_column = {_quoted(label)}")
    return [*lines, *_separator_lines(table.separator)] if table.targets == LABELS else lines


def _separator_lines(separator: str) -> list[str]:
    """Return the lines of a recipe for cells with several labels, and this sign between them."""
    if separator == "|":  # the default
        note = "several in a cell, with | between them; take this line away where | belongs to a class's name"
        return [f'targets = "labels"   # {note}']
    note = f"several in a cell; take these two lines away where {separator.strip()} belongs to a class's name"
    return [f'targets = "labels"   # {note}', f"label_separator = {_quoted(separator)}"]


def _target_columns(names: Sequence[str]) -> str:
    return f"target_columns = [{', '.join(map(_quoted, names))}]"


def _level_lines(data: RecognizedData) -> list[str]:
    """Return the lines of the level of Drive&Act's annotations; a comment where it is the usual one."""
    usual, *_ = data.levels
    is_default = usual == LEVELS[0]
    note = f"here: {', '.join(data.levels)}; --level takes its place"
    line = f"{'# ' if is_default else ''}level = {_quoted(usual)}   # {note}"
    return [line] if has_one_target(usual) else [line, '# target = "activity"   # the column that is predicted']


def _split_lines(data: RecognizedData) -> list[str]:
    """Return the lines of [data.split], for the splits that the data set lacks; none where nothing is lacking."""
    if data.kind == "table":
        unit = next((role for role in ("subject", "clip") if role in data.table.columns), "image")
        if "split" not in data.table.columns:
            return _split_section(unit, val=True, test=True)
        return _lacking_splits(data.table.splits, unit)
    if data.kind == "containers" and not data.names:
        return _split_section("image", val=True, test=True)
    if data.kind == "classes":
        return _split_section("clip" if data.has_clips else "image", val=True, test=True)
    return _lacking_splits(data.names, "image")


def _lacking_splits(names: Sequence[str], unit: str) -> list[str]:
    """Return the lines of [data.split] that take what is lacking from train; of test alone, as a comment."""
    if "train" not in names:
        return []
    if "val" not in names:
        return _split_section(unit, val=True, test="test" not in names)
    if "test" not in names:
        note = "# There is no test split: report evaluates on val. This takes one from train:"
        return ["", note, *(f"# {line}" for line in _split_section(unit, val=False, test=True) if line)]
    return []


def _split_section(unit: str, *, val: bool, test: bool, clip: str = "a folder of images") -> list[str]:
    lines = ["", "[data.split]   # taken from train" if not (val and test) else "[data.split]"]
    lines += ["val = 0.15     # the share of the images that chooses the best head"] if val else []
    lines += ["test = 0.15    # the share of the images that is kept for the report"] if test else []
    by = f"by = {_quoted(unit)}"
    return [*lines, f"{by:<15}# what is never divided: subject, clip ({clip}) or image"]


def _frames_command(path: str) -> str:
    """Return the shell's lines that write the frames of every video as images."""
    folder = shlex.quote(path.rstrip("/") or "/")
    suffixes = " -o ".join(f"-iname '*{suffix}'" for suffix in VIDEO_SUFFIXES)
    return (
        f"(cd {folder} && find . -type f \\( {suffixes} \\)) | while read -r video; do\n"
        f'  mkdir -p "frames/${{video%.*}}"\n'
        f'  ffmpeg -nostdin -loglevel error -i {folder}/"$video" -vf fps=2 "frames/${{video%.*}}/%06d.jpg"\n'
        f"done"
    )


def _root(path: str) -> str:
    return f"root = {_quoted(path)}"


def _quoted(text: str) -> str:
    """Return a text as a basic string of TOML, whose escapes are JSON's."""
    return json.dumps(text, ensure_ascii=False)
