"""`featcache predict` and `featcache export-model`."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featcache.cli.app import Device, Json, command, complain, console, print_json, refuse_unused, say, short
from featcache.errors import UsageError
from featcache.files import expand_home
from featcache.recipe import Stored

if TYPE_CHECKING:
    from featcache.prediction import Predictions, Timeline

HeadName = Annotated[
    str,
    typer.Argument(help="A head's name, how it starts, its folder; best: the first of compare; latest: the newest's."),
]


@command()
def predict(
    *,
    head: HeadName,
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE…", help="Images, folders, one video, or - for names on stdin.")
    ],
    where: Stored,
    top: Annotated[int, typer.Option("--top", help="Labels of each image.")] = 5,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write the answers as a table.")] = None,
    png: Annotated[Path | None, typer.Option("--png", help="Write a contact sheet; of a video, a strip.")] = None,
    per_second: Annotated[float, typer.Option("--per-second", help="Frames of a video that are looked at.")] = 2.0,
    device: Device = "auto",
    workers: Annotated[int | None, typer.Option("--workers", help="Processes that read and decode.")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="Images in one forward pass.")] = None,
    as_json: Json = False,
) -> None:
    """A head on new images: labels with probabilities. --weights says where the trunk's weights are now."""
    from featcache.extraction import Settings
    from featcache.prediction import is_video, predict, timeline
    from featcache.report import Bar, check_destination

    for path, suffix in ((csv, ".csv"), (png, ".png")):
        if path is not None:
            check_destination(path, suffix)
    if top < 1:
        raise UsageError(f"--top: found {top}, expected at least 1")
    Settings(device=device, workers=workers, batch_size=batch_size)  # refuses what cannot be
    named = [name for word in images for name in (_from_stdin() if word == "-" else [word])]
    videos = [name for name in named if is_video(name) and not os.path.isdir(expand_home(name))]
    if videos and len(named) > 1:
        raise UsageError(f"{videos[0]}: a video is asked about alone; found {len(named) - 1} more names")
    if videos:
        refuse_unused(("top", "workers"), "on a video: a stretch has one label, and one process decodes")
    else:
        refuse_unused(["per_second"], "on images")
    with Bar(console(stderr=True)) as bar:
        if videos:
            over_time = timeline(
                head, videos[0], per_second=per_second, device=device, batch_size=batch_size,
                progress=lambda done: bar.show("frames", done, 0), **where,
            )  # fmt: skip
        else:
            found = predict(
                head, named, device=device, batch_size=batch_size, workers=workers,
                progress=lambda done, total: bar.show("images", done, total), **where,
            )  # fmt: skip
    if videos:
        _show_timeline(over_time, csv, png, as_json=as_json)
    else:
        _show(found, top, csv, png, as_json=as_json)


@command("export-model")
def export_model(
    *,
    head: HeadName,
    to: Annotated[Path, typer.Option("--to", help="model.pt (torchvision's names) or model.onnx.")],
    where: Stored,
    as_json: Json = False,
) -> None:
    """A head and its trunk as one file for torchvision or ONNX; transform and class names beside it, as JSON."""
    from featcache.prediction import export_model as export

    done = export(head, to, **where)
    if as_json:
        print_json(done.to_json())
    else:
        if done.chosen:
            say(done.chosen)
        say(f"{done.head}: {done.parameters:,} parameters, {done.outputs} outputs")
        say(f"wrote {short(done.model)} and {short(done.about)}")
    for note in done.notes:
        complain(f"note: {note}")


def _from_stdin() -> list[str]:
    """Names, one a line, as `find` and `ls` write them."""
    return [os.fsdecode(line) for line in sys.stdin.buffer.read().split(b"\n") if line]


def _show(found: "Predictions", top: int, csv: Path | None, png: Path | None, *, as_json: bool) -> None:
    from featcache.report import printable, render_predictions, save_predictions_csv

    if csv is not None:
        save_predictions_csv(found, csv, top)
    if png is not None:
        from featcache.report import save_sheet

        save_sheet(found, png)
    if as_json:
        print_json(found.to_json(top))
    else:
        say(found.chosen or f"head {found.head}")
        render_predictions(found, console(), top)
        _say_written(csv, png)
    for path, reason in zip(found.paths, found.failed, strict=True):
        if reason:
            complain(f"warning: {printable(path)}: {reason}")
    for note in found.notes:
        complain(f"note: {note}")


def _show_timeline(found: "Timeline", csv: Path | None, png: Path | None, *, as_json: bool) -> None:
    from featcache.report import render_timeline, save_timeline_csv

    if csv is not None:
        save_timeline_csv(found, csv)
    if png is not None:
        from featcache.report import save_strip

        save_strip(found, png)
    if as_json:
        print_json(found.to_json())
    else:
        say(found.chosen or f"head {found.head}")
        render_timeline(found, console())
        _say_written(csv, png)
    if found.failed:
        complain(f"warning: {found.path}: not read to its end: {found.failed}")
    for note in found.notes:
        complain(f"note: {note}")


def _say_written(*paths: Path | None) -> None:
    for path in paths:
        if path is not None:
            say(f"wrote {short(path)}")
