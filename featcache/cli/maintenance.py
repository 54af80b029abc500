"""`featcache verify`, `repair`, `gc` and `export`."""

import time
from pathlib import Path
from typing import Annotated

import typer

from featcache.cli.app import (
    Cache,
    Device,
    Json,
    Pipeline,
    Weights,
    command,
    complain,
    console,
    print_json,
    refuse_unused,
    say,
    short,
)
from featcache.errors import UsageError
from featcache.recipe import Stored

OneStore = Annotated[str | None, typer.Option("--store", help="One store: its name, or the start of its fingerprint.")]
Wait = Annotated[float, typer.Option("--wait", help="Seconds to wait for a store that another process writes to.")]

_NAMED = 5  # images that repair names


@command()
def verify(
    cache: Cache = None,
    store: OneStore = None,
    quick: Annotated[bool, typer.Option("--quick", help="Sizes and logs alone: at once.")] = False,
    deep: Annotated[bool, typer.Option("--deep", help="Also embed a sample of images anew, and compare.")] = False,
    sample: Annotated[int, typer.Option("--sample", help="Of --deep: images of each store.")] = 32,
    pipeline: Pipeline = None,
    weights: Weights = None,
    device: Device = "auto",
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="Of --deep: images in a forward.")] = None,
    as_json: Json = False,
) -> None:
    """Every problem in the cache, not the first one: logs, all hashes, listings, heads; --quick, --deep."""
    from featcache.maintenance import HASHES, QUICK, examine
    from featcache.report import Bar, left, many

    if quick and deep:
        raise UsageError("--quick and --deep were both given; leave one out")
    if not deep:
        refuse_unused(("sample", "pipeline", "weights", "device", "batch_size"), "without --deep")
    if sample < 1:
        raise UsageError(f"--sample: found {sample}, expected at least 1")
    begun = time.monotonic()
    with Bar(console(stderr=True)) as bar:

        def show(done: int, total: int) -> None:
            seconds = time.monotonic() - begun
            rate = f"{done / 1e6 / max(seconds, 1e-9):,.0f} MB/s  {left(done, total, seconds)}"
            bar.show("hashing", done // 10**6, total // 10**6, f"MB  {rate}")

        found = examine(cache=cache, store=store, depth=QUICK if quick else HASHES, progress=show)
        if deep:
            from featcache.maintenance import embed_again
            from featcache.recipe import resolve

            typed = weights or (resolve(pipeline).trunk.weights if pipeline else None)
            embed_again(
                found, cache=cache, weights=typed, device=device, batch_size=batch_size, sample=sample,
                progress=lambda name: bar.show(f"embedding a sample of {name}", 0, 1),
            )  # fmt: skip
    if as_json:
        print_json({**found.to_json(), "depth": "quick" if quick else "deep" if deep else "hashes"})
    else:
        for problem in found.problems:
            say(f"{problem.kind}: {_here(problem.message)}")
        for note in found.notes:
            say(f"note: {_here(note.message)}")
        rate = f", {found.bytes / 1e6 / max(found.seconds, 1e-9):,.0f} MB/s" if found.bytes > 10**6 else ""
        read = "sizes and logs" if quick else f"{found.bytes / 1e6:,.1f} MB of shards hashed"
        again = f"; {many(found.compared, 'image')} embedded again" if deep else ""
        say(f"{many(len(found.problems), 'problem')} ({read}, {found.seconds:.1f} s{rate}{again})")
    if found.problems:
        raise typer.Exit(3)


@command()
def repair(
    cache: Cache = None,
    store: OneStore = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    wait: Wait = 0.0,
    as_json: Json = False,
) -> None:
    """Take out what is damaged (it is kept aside in damaged/), adopt what is whole; extract then embeds the rest."""
    from featcache.listing import shown_path
    from featcache.maintenance import repair
    from featcache.report import Bar, many

    with Bar(console(stderr=True)) as bar:
        done = repair(
            cache=cache, store=store, dry_run=dry_run, wait=wait,
            progress=lambda name: bar.show(f"looking at {name}", 0, 1),
        )  # fmt: skip
    if as_json:
        print_json(done.to_json())
    else:
        for action in done.actions:
            say(f"{'would be ' if dry_run else ''}{action.kind}: {_here(action.message)}")
        for listing, path in done.embed_again[:_NAMED]:
            say(f"to be embedded again: {listing}: {shown_path(path)}")
        if len(done.embed_again) > _NAMED:
            say(f"… and {len(done.embed_again) - _NAMED:,} more (--json names them all)")
        for problem in done.unmended:
            say(f"not mended: {_here(problem.message)}")
        extract = "; run `featcache extract`" if done.embed_again else ""
        say(
            f"{many(len(done.actions), 'repair')}, {many(len(done.embed_again), 'image')} to be embedded again{extract}"
        )
    if done.unmended:
        raise typer.Exit(3)


@command("gc")
def collect(
    cache: Cache = None,
    store: OneStore = None,
    apply: Annotated[bool, typer.Option("--apply", help="Do it; without, say what would be done.")] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Forget also what an extract that has not ended embedded.")
    ] = False,
    grace: Annotated[
        float, typer.Option("--grace", help="Keep dropped files so many seconds, for readers on other machines.")
    ] = 0.0,
    wait: Wait = 0.0,
    as_json: Json = False,
) -> None:
    """Forget embeddings that no listing names, and merge small shards. A dry run, unless --apply."""
    from featcache.maintenance import gc
    from featcache.report import Bar, many

    with Bar(console(stderr=True)) as bar:
        found = gc(
            cache=cache, store=store, apply=apply, everything=everything, grace=grace, wait=wait,
            progress=lambda done, total: bar.show("merging", done, total, "embeddings"),
        )  # fmt: skip
    if as_json:
        print_json([one.to_json() for one in found])
        return
    for one in found:
        unfinished = f", {one.unfinished:,} of an unfinished extract kept" if one.unfinished else ""
        forgot, turned = ("forgot", "turned") if one.applied else ("would forget", "would turn")
        merged = (
            f", {turned} {one.rewritten:,} of {many(one.shards, 'shard')} into {one.added:,}" if one.rewritten else ""
        )
        size = f"{one.removed / 1e6:,.1f} MB of files removed" if one.applied else f"{one.freed / 1e6:,.1f} MB of rows"
        rows = f"{one.forgotten + one.repeated:,} of {one.rows:,} embeddings"
        say(f"{one.store}: {forgot} {rows}{unfinished}{merged}; {size}")
    if not apply:
        say("nothing was done; --apply does it")


@command()
def export(
    *,
    split: Annotated[str, typer.Argument(help="The split.")],
    to: Annotated[Path, typer.Option("--to", help="A file that ends in .h5, .npz or .parquet.")],
    where: Stored,
    as_json: Json = False,
) -> None:
    """One split as one plain file for other tools: embeddings, labels, paths, clips, subjects, classes."""
    from featcache.features import export

    found = export(split, to, **where)
    size = to.stat().st_size
    if as_json:
        print_json({"split": split, "file": str(to), "rows": len(found.y), "dim": found.x.shape[1], "bytes": size})
        return
    if found.failed:
        complain(f"note: {found.failed:,} images of this split have no embedding and are left out")
    say(f"wrote {short(to)}: {len(found.y):,} rows of {found.x.shape[1]}, {size / 1e6:,.1f} MB")


def _here(message: str) -> str:
    """A message whose paths are as a person would type them here."""
    return message.replace(f"{Path.cwd()}/", "")
