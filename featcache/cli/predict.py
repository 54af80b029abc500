"""`featcache predict` and `featcache export-model`."""

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featcache.cli.app import command, refuse_unused
from featcache.cli.next_command import say_next_after_predict
from featcache.cli.options import Device, Json
from featcache.cli.output import echo, echo_json, echo_stderr, open_console, relative_path
from featcache.cli.typed_folder import is_data_folder
from featcache.errors import UsageError
from featcache.files import expand_home
from featcache.recipe import KeptHeadOptions

if TYPE_CHECKING:
    from featcache.prediction import Predictions, Timeline

TOP, PER_SECOND = 5, 2.0
HeadName = Annotated[
    str,
    typer.Argument(
        help="A head: its number (3), its name or the start of it, its folder; best (the first of compare); latest."
    ),
]


@command()
def predict(
    *,
    head: HeadName,
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE…", help="Images, folders, one video, or - for names on stdin.")
    ],
    options: KeptHeadOptions,
    top: Annotated[int, typer.Option("--top", help="How many labels are shown for each image.  [from 1 up]")] = TOP,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write the predictions as a table (.csv).")] = None,
    png: Annotated[
        Path | None, typer.Option("--png", help="Write a contact sheet (.png); for a video, a strip.")
    ] = None,
    per_second: Annotated[
        float, typer.Option("--per-second", help="Frames of a video that are looked at each second.  [above 0]")
    ] = PER_SECOND,
    test_views: Annotated[
        bool,
        typer.Option("--test-views", help="Average the probabilities over each image and views of it."),
    ] = False,
    device: Device = "auto",
    workers: Annotated[
        int | None,
        typer.Option("--workers", help="Processes that read and decode; by default as many as fit.  [from 0 up]"),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", help="Images in one forward pass; by default what suits the device.  [from 1 up]"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Predict the labels of new images, with probabilities. --weights says where the trunk's weights are now."""
    from featcache.extraction import Settings
    from featcache.prediction import is_video, predict, timeline
    from featcache.report import ProgressBar, check_destination

    _refuse_as_head(head)
    for path, suffix in ((csv, ".csv"), (png, ".png")):
        if path is not None:
            check_destination(path, suffix)
    if top < 1:
        raise UsageError(f"--top: found {top}, expected at least 1").correct("--top", "5")
    Settings(device=device, workers=workers, batch_size=batch_size)  # refuses what cannot be
    named = [name for word in images for name in (_from_stdin() if word == "-" else [word])]
    videos = [name for name in named if is_video(name) and not os.path.isdir(expand_home(name))]
    if videos and len(named) > 1:
        raise UsageError(f"{videos[0]}: a video must be the only input; found {len(named) - 1} more")
    if videos:
        refuse_unused(["test_views"], "on a video: its frames are averaged over time")
        refuse_unused(("top", "workers"), "on a video: each stretch has one label, and a single process decodes")
    else:
        refuse_unused(["per_second"], "on images")
    with ProgressBar(open_console(stderr=True)) as bar:
        if videos:
            over_time = timeline(
                head, videos[0], per_second=per_second, device=device, batch_size=batch_size,
                progress=lambda done: bar.show("frames", done, 0), **options,
            )  # fmt: skip
        else:
            predictions = predict(
                head, named, device=device, batch_size=batch_size, workers=workers,
                test_views=test_views, progress=lambda done, total: bar.show("images", done, total), **options,
            )  # fmt: skip
    if videos:
        _show_timeline(over_time, csv, png, as_json=as_json)
    else:
        _show(predictions, top, csv, png, as_json=as_json)
    if not as_json:
        numbers = (
            ["--test-views"] * test_views
            + [f"--top={top}"] * (top != TOP)
            + [f"--per-second={per_second:g}"] * (per_second != PER_SECOND)
        )
        say_next_after_predict(options, [head, *images, *numbers], over_time if videos else predictions, csv)


@command("export-model")
def export_model(
    *,
    head: HeadName,
    to: Annotated[Path, typer.Option("--to", help="The file: model.pt (with torchvision's names) or model.onnx.")],
    options: KeptHeadOptions,
    as_json: Json = False,
) -> None:
    """Write a head and its trunk as one file for torchvision or ONNX; transform and class names beside it, as JSON."""
    from featcache.prediction import export_model as export

    _refuse_as_head(head)
    exported = export(head, to, **options)
    if as_json:
        echo_json(exported.to_json())
    else:
        echo(exported.chosen or f"head {exported.handle or exported.head}")
        echo(f"{exported.parameters:,} parameters, {exported.outputs} outputs")
        echo(f"wrote {relative_path(exported.model)} and {relative_path(exported.about)}")
    for note in exported.notes:
        echo_stderr(f"note: {note}")


def _refuse_as_head(word: str) -> None:
    """Refuse an image, or the folder of a data set, that stands where a head does."""
    from featcache.containers import is_container_path, is_member_path
    from featcache.heads.saved import MODEL_DOCUMENTS
    from featcache.listing import IMAGE_SUFFIXES

    if word.lower().endswith(IMAGE_SUFFIXES):
        error = UsageError(f"{word!r} is an image, expected a head before the images: a number, a name, best or latest")
        raise error.correct(word, f"best {shlex.quote(word)}")
    if is_container_path(word) or is_member_path(word):
        error = UsageError(f"{word!r} holds images, expected a head before them: a number, a name, best or latest")
        raise error.correct(word, f"best {shlex.quote(word)}")
    if is_data_folder(word) and not any(
        os.path.lexists(os.path.join(expand_home(word), name)) for name in MODEL_DOCUMENTS
    ):
        error = UsageError(
            f"{word!r} is a folder, expected a head: a number, a name, best or latest; --data names folders"
        )
        raise error.correct(word, f"best --data {shlex.quote(word)}")


def _from_stdin() -> list[str]:
    """Return the names on stdin, one a line, as `find` and `ls` write them."""
    return [os.fsdecode(line) for line in sys.stdin.buffer.read().split(b"\n") if line]


def _show(predictions: "Predictions", top: int, csv: Path | None, png: Path | None, *, as_json: bool) -> None:
    from featcache.report import print_predictions, save_predictions_csv
    from featcache.text import printable

    if csv is not None:
        save_predictions_csv(predictions, csv, top)
    if png is not None:
        from featcache.report.pictures import save_sheet

        save_sheet(predictions, png)
    if as_json:
        echo_json(predictions.to_json(top))
    else:
        echo(predictions.chosen or f"head {predictions.handle or predictions.head}")
        print_predictions(predictions, open_console(), top)
        _say_written(csv, png)
    for path, reason in zip(predictions.paths, predictions.failed, strict=True):
        if reason:
            echo_stderr(f"warning: {printable(path)}: {reason}")
    for note in predictions.notes:
        echo_stderr(f"note: {note}")


def _show_timeline(timeline: "Timeline", csv: Path | None, png: Path | None, *, as_json: bool) -> None:
    from featcache.report import print_timeline, save_timeline_csv

    if csv is not None:
        save_timeline_csv(timeline, csv)
    if png is not None:
        from featcache.report.pictures import save_strip

        save_strip(timeline, png)
    if as_json:
        echo_json(timeline.to_json())
    else:
        echo(timeline.chosen or f"head {timeline.handle or timeline.head}")
        print_timeline(timeline, open_console())
        _say_written(csv, png)
    if timeline.failed:
        echo_stderr(f"warning: {timeline.path}: could not be read to its end: {timeline.failed}")
    for note in timeline.notes:
        echo_stderr(f"note: {note}")


def _say_written(*paths: Path | None) -> None:
    for path in paths:
        if path is not None:
            echo(f"wrote {relative_path(path)}")
