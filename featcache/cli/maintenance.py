"""`featcache verify`, `repair`, `gc` and `export`."""

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featcache.cli.app import command, refuse_unused
from featcache.cli.options import Cache, Device, Json, Pipeline, Weights
from featcache.cli.output import echo, echo_json, echo_stderr, open_console, relative_path, relative_paths
from featcache.cli.typed_data import add_data_set, remember_cache
from featcache.cli.typed_folder import is_data_folder
from featcache.errors import UsageError
from featcache.recipe import StoreOptions

if TYPE_CHECKING:
    from featcache.maintenance import GcSummary

OneStore = Annotated[str | None, typer.Option("--store", help="One store: its name, or the start of its fingerprint.")]
Wait = Annotated[float, typer.Option("--wait", help="Seconds to wait for a store that another process writes to.")]

_NAMED = 5  # images that repair names


@command()
def verify(
    cache: Cache = None,
    store: OneStore = None,
    quick: Annotated[bool, typer.Option("--quick", help="Check sizes and logs only; nothing is hashed.")] = False,
    deep: Annotated[bool, typer.Option("--deep", help="Also embed a sample of the images again, and compare.")] = False,
    sample: Annotated[int, typer.Option("--sample", help="For --deep: images of each store.")] = 32,
    pipeline: Pipeline = None,
    arch: Annotated[
        str | None, typer.Option("--arch", help="For --deep: a module of your own, package.module:callable, to import.")
    ] = None,
    weights: Weights = None,
    device: Device = "auto",
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", help="For --deep: images in one forward pass.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Find every problem in the cache, not only the first one: logs, all hashes, listings, heads; --quick, --deep."""
    from featcache.maintenance import HASHES, QUICK, run_verification
    from featcache.report import ProgressBar, time_left
    from featcache.text import counted

    if quick and deep:
        raise UsageError("--quick and --deep were both given; leave one out")
    if not deep:
        refuse_unused(("sample", "pipeline", "arch", "weights", "device", "batch_size"), "without --deep")
    if sample < 1:
        raise UsageError(f"--sample: found {sample}, expected at least 1")
    begun = time.monotonic()
    with ProgressBar(open_console(stderr=True)) as bar:

        def show(done: int, total: int) -> None:
            seconds = time.monotonic() - begun
            rate = f"{done / 1e6 / max(seconds, 1e-9):,.0f} MB/s  {time_left(done, total, seconds)}"
            bar.show("hashing", done // 10**6, total // 10**6, f"MB  {rate}")

        examination = run_verification(cache=cache, store=store, depth=QUICK if quick else HASHES, progress=show)
        if deep:
            from featcache.maintenance import reembed_sample
            from featcache.recipe import resolve_recipe

            trunk_weights = weights or (resolve_recipe(pipeline).trunk.weights if pipeline else None)
            reembed_sample(
                examination, cache=cache, weights=trunk_weights, arch=arch, device=device, batch_size=batch_size,
                sample=sample, progress=lambda name: bar.show(f"embedding a sample of {name}", 0, 1),
            )  # fmt: skip
    remember_cache(cache)
    if as_json:
        echo_json({**examination.to_json(), "depth": "quick" if quick else "deep" if deep else "hashes"})
    else:
        for problem in examination.problems:
            echo(add_data_set(f"{problem.kind}: {relative_paths(problem.message)}"))
        for note in examination.notes:
            echo(add_data_set(f"note: {relative_paths(note.message)}"))
        size, seconds = examination.bytes, examination.seconds
        rate = f", {size / 1e6 / max(seconds, 1e-9):,.0f} MB/s" if size > 10**6 else ""
        read = "sizes and logs" if quick else f"{size / 1e6:,.1f} MB of shards hashed"
        again = f"; {counted(examination.compared, 'image')} embedded again" if deep else ""
        echo(f"{counted(len(examination.problems), 'problem')} ({read}, {seconds:.1f} s{rate}{again})")
    if examination.problems:
        raise typer.Exit(3)


@command()
def repair(
    cache: Cache = None,
    store: OneStore = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")] = False,
    wait: Wait = 0.0,
    as_json: Json = False,
) -> None:
    """Take out what is damaged (it is moved to damaged/), adopt what is sound; extract then embeds the rest."""
    from featcache.listing import shown_path
    from featcache.maintenance import repair
    from featcache.report import ProgressBar
    from featcache.text import counted

    with ProgressBar(open_console(stderr=True)) as bar:
        repairs = repair(
            cache=cache, store=store, dry_run=dry_run, wait=wait,
            progress=lambda name: bar.show(f"looking at {name}", 0, 1),
        )  # fmt: skip
    remember_cache(cache)
    if as_json:
        echo_json(repairs.to_json())
    else:
        for action in repairs.actions:
            echo(add_data_set(f"{'would be ' if dry_run else ''}{action.kind}: {relative_paths(action.message)}"))
        for listing, path in repairs.embed_again[:_NAMED]:
            echo(f"to be embedded again: {listing}: {shown_path(path)}")
        if len(repairs.embed_again) > _NAMED:
            echo(f"… and {len(repairs.embed_again) - _NAMED:,} more (--json lists them all)")
        for problem in repairs.unrepaired:
            echo(add_data_set(f"not repaired: {relative_paths(problem.message)}"))
        images, extract = len(repairs.embed_again), "; run `featcache extract`" if repairs.embed_again else ""
        repaired = f"{counted(len(repairs.actions), 'repair')}, {counted(images, 'image')} to be embedded again"
        echo(add_data_set(f"{repaired}{extract}"))
    if repairs.unrepaired:
        raise typer.Exit(3)


@command("gc")
def collect(
    cache: Cache = None,
    store: OneStore = None,
    apply: Annotated[bool, typer.Option("--apply", help="Do it; without it, only show what would be done.")] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Also forget what an unfinished extract has embedded.")
    ] = False,
    grace: Annotated[
        float, typer.Option("--grace", help="Keep dropped files for this many seconds, for readers on other machines.")
    ] = 0.0,
    wait: Wait = 0.0,
    as_json: Json = False,
) -> None:
    """Forget embeddings that no listing names, and merge small shards. A dry run unless --apply is given."""
    from featcache.maintenance import gc
    from featcache.report import ProgressBar

    with ProgressBar(open_console(stderr=True)) as bar:
        collections = gc(
            cache=cache, store=store, apply=apply, everything=everything, grace=grace, wait=wait,
            progress=lambda done, total: bar.show("merging", done, total, "embeddings"),
        )  # fmt: skip
    if as_json:
        echo_json([collection.to_json() for collection in collections])
        return
    for collection in collections:
        echo(_sentence_of(collection))
    if not apply:
        echo("nothing was done; --apply does it")


def _sentence_of(collection: "GcSummary") -> str:
    """Return what gc did to one store, or would do."""
    from featcache.text import counted

    if collection.applied:
        forgot, turned, size = "forgot", "turned", f"{collection.removed / 1e6:,.1f} MB of files removed"
    else:
        forgot, turned, size = "would forget", "would turn", f"{collection.freed / 1e6:,.1f} MB of rows"
    parts = [f"{forgot} {collection.forgotten + collection.repeated:,} of {collection.rows:,} embeddings"]
    if collection.unfinished:
        parts.append(f"{collection.unfinished:,} of an unfinished extract kept")
    if collection.rewritten:
        parts.append(
            f"{turned} {collection.rewritten:,} of {counted(collection.shards, 'shard')} into {collection.added:,}"
        )
    if collection.uncommitted:
        removed = "removed" if collection.applied else "would remove"
        parts.append(f"{removed} {counted(collection.uncommitted, 'shard')} that killed runs left out of the log")
    return f"{collection.store}: {', '.join(parts)}; {size}"


@command("copy")
def copy_cache(
    source: Annotated[str, typer.Argument(metavar="CACHE", help="The cache: a folder, or s3://, gs:// or az://….")],
    target: Annotated[str, typer.Argument(metavar="COPY", help="Where its copy is to be; what it lacks is added.")],
    wait: Wait = 0.0,
    as_json: Json = False,
) -> None:
    """Copy a cache, from a folder to a bucket or back. Safe to stop, safe to run again: it goes on."""
    from featcache.maintenance import copy_cache
    from featcache.report import ProgressBar
    from featcache.text import counted

    with ProgressBar(open_console(stderr=True)) as bar:
        copied = copy_cache(
            source, target, wait=wait, progress=lambda size: bar.show("copying", 0, 1, f"{size / 1e6:,.1f} MB")
        )
    if as_json:
        echo_json(copied.to_json())
        return
    present = f"; {counted(copied.present, 'file')} there already" if copied.present else ""
    echo(
        f"copied {counted(copied.stores, 'store')} to {target}: {counted(copied.files, 'file')}, "
        f"{copied.bytes / 1e6:,.1f} MB, {counted(copied.lines, 'line')} of logs{present}"
    )
    echo(f"next: featcache info --cache {shlex.quote(target)}")


@command()
def export(
    *,
    split: Annotated[str, typer.Argument(help="The split.")],
    to: Annotated[Path, typer.Option("--to", help="The file; its name ends in .h5, .npz or .parquet.")],
    options: StoreOptions,
    as_json: Json = False,
) -> None:
    """Write one split as one plain file for other tools: embeddings, labels, paths, clips, subjects, classes."""
    from featcache.features import export
    from featcache.text import counted

    if is_data_folder(split):
        error = UsageError(f"{split!r} is a folder, expected a split; --data names the data set")
        raise error.correct(split, f"test --data {shlex.quote(split)}")
    features = export(split, to, **options)
    size = to.stat().st_size
    if as_json:
        echo_json({"split": split, "file": str(to), "rows": len(features.y), "dim": features.x.shape[1], "bytes": size})
        return
    if features.failed:
        echo_stderr(f"note: left out: {counted(features.failed, 'image')} of this split without an embedding")
    echo(f"wrote {relative_path(to)}: {len(features.y):,} rows of {features.x.shape[1]}, {size / 1e6:,.1f} MB")
