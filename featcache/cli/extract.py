"""`featcache data` and `featcache extract`."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featcache.cli.app import command, refuse_unused
from featcache.cli.folds import options_of_folds
from featcache.cli.label_issues import list_label_issues
from featcache.cli.next_command import say_next, say_next_after_extract, say_next_fit_head
from featcache.cli.options import (
    Arch,
    Folds,
    Json,
    Layer,
    Precision,
    Ray,
    RayCpus,
    RayGpus,
    RayWorkers,
    Store,
    Weights,
    WithFolder,
)
from featcache.cli.output import echo, echo_json, echo_stderr, open_console, relative_path
from featcache.errors import UsageError, name_fold_in_errors
from featcache.recipe import DataOptions, StoreOptions, TrunkKeywords

if TYPE_CHECKING:
    from featcache.extraction import Progress, Summary
    from featcache.report import Pace, ProgressBar


@command("data")
def data_set(
    *,
    split: Annotated[list[str] | None, typer.Option("--split", help="A split, or several; by default all.")] = None,
    near: Annotated[
        float | None,
        typer.Option("--near", help="Also list images of two splits whose cosine is this or more, such as 0.98."),
    ] = None,
    label_issues: Annotated[
        bool,
        typer.Option(
            "--label-issues",
            help="Instead, list the images of train and val whose label is probably wrong, by heads that have not seen "
            "them; needs extract, and cleanlab.",
        ),
    ] = False,
    options: Annotated[DataOptions, WithFolder()],
    store: Store = None,
    arch: Arch = None,
    layer: Layer = None,
    weights: Weights = None,
    precision: Precision = None,
    csv: Annotated[
        Path | None,
        typer.Option(
            "--csv",
            help="Write the counts per class and split as a table; with --near, the pairs; with "
            "--label-issues, the images.",
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", help="With --label-issues, write a page (.html) with the images and both labels."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Describe the data set: counts, imbalance, clips, shared and conflicting images, leaks between splits."""
    from featcache.dataset import describe, near_duplicates
    from featcache.report import (
        ProgressBar,
        check_destination,
        print_data_summary,
        print_near_duplicates,
        save_near_duplicates_csv,
        save_summary_csv,
    )

    if label_issues:
        refuse_unused(("split", "near"), "with --label-issues")
        chosen: StoreOptions = {
            **options, "store": store, "arch": arch, "layer": layer, "weights": weights, "precision": precision,
            "features": None,
        }  # fmt: skip
        list_label_issues(chosen, csv=csv, html=html, as_json=as_json)
        return
    if html is not None:
        raise UsageError("--html belongs to --label-issues").correct("--html", None)
    if near is None:
        refuse_unused(
            ("store", "arch", "layer", "weights", "precision"), "without --near: the data set is counted, not a store"
        )
    if csv is not None:
        check_destination(csv, ".csv")
    contents = describe(splits=split, **options)
    pairs = None
    if near is not None:
        with ProgressBar(open_console(stderr=True)) as bar:
            pairs = near_duplicates(
                near,
                progress=lambda done, total: bar.show("comparing", done // 10**6, total // 10**6, "million pairs"),
                store=store,
                arch=arch,
                layer=layer,
                weights=weights,
                precision=precision,
                **options,
            )
    if csv is not None:
        save_summary_csv(contents, csv) if pairs is None else save_near_duplicates_csv(pairs, csv)
    if as_json:
        echo_json(contents.to_json() | ({} if pairs is None else {"near": pairs.to_json()}))
        return
    print_data_summary(contents, open_console())
    if pairs is not None:
        echo("")
        print_near_duplicates(pairs, open_console())
    if csv is not None:
        echo(f"wrote {relative_path(csv)}")
    if contents.duplicates is None:
        say_next("extract", options)
    else:
        say_next_fit_head(options)


@command()
def extract(
    *,
    split: Annotated[str | None, typer.Option("--split", help="The split; by default all of them.")] = None,
    options: Annotated[DataOptions, WithFolder()],
    folds: Folds = None,
    trunk: TrunkKeywords,
    device: Annotated[
        str, typer.Option("--device", help="auto, all, cpu, cuda, cuda:N, cuda:N,cuda:M or mps.")
    ] = "auto",
    engine: Annotated[str, typer.Option("--engine", help="auto, eager, compile or openvino.")] = "auto",
    workers: Annotated[
        int | None,
        typer.Option("--workers", help="Processes that read and decode; by default as many as fit the machine."),
    ] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="Images in one forward pass.")] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", help="Embed a stratified part of each split: this many images.")
    ] = None,
    fraction: Annotated[
        float | None, typer.Option("--fraction", help="Embed a stratified part of each split: this share.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="The seed of --limit and --fraction; by default 0.")
    ] = None,
    max_bad: Annotated[float, typer.Option("--max-bad", help="The share of images that may be unreadable.")] = 0.01,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try unreadable images again.")] = False,
    shard_rows: Annotated[
        int, typer.Option("--shard-rows", help="Publish a shard after this many embeddings …")
    ] = 16_384,
    shard_seconds: Annotated[float, typer.Option("--shard-seconds", help="… or after this many seconds.")] = 60.0,
    wait: Annotated[
        float, typer.Option("--wait", help="Seconds to wait for a store that another process writes to.")
    ] = 0.0,
    ray: Ray = None,
    ray_gpus: RayGpus = None,
    ray_cpus: RayCpus = None,
    ray_workers: RayWorkers = None,
    as_json: Json = False,
) -> None:
    """Stage one: embed the images that the cache lacks. Safe to stop at any moment, safe to run again."""
    from featcache.extraction import Settings, extract
    from featcache.heads import BackgroundCompilation
    from featcache.report import Pace, ProgressBar

    settings = Settings(
        device=device, engine=engine, workers=workers, batch_size=batch_size, max_bad=max_bad,
        retry_failed=retry_failed, shard_rows=shard_rows, shard_seconds=shard_seconds, wait=wait,
        ray=ray, ray_gpus=ray_gpus, ray_cpus=ray_cpus, ray_workers=ray_workers,
    )  # fmt: skip
    runs: list[tuple[int | None, list[Summary]]] = []
    warned: set[str] = set()
    with BackgroundCompilation() as compilation:
        for fold, of_fold in options_of_folds(folds, options):
            with name_fold_in_errors(fold), ProgressBar(open_console(stderr=True)) as bar:
                summaries = extract(
                    split, limit=limit, fraction=fraction, seed=seed, settings=settings,
                    progress=partial(_show_progress, bar, Pace(), compilation.start), **trunk, **of_fold,
                )  # fmt: skip
            runs.append((fold, summaries))
            _warn(summaries, warned)
            if not as_json:
                _show(fold, summaries)
    if as_json:
        documents = [
            {**summary.to_json(), **({} if fold is None else {"fold": fold})}
            for fold, summaries in runs
            for summary in summaries
        ]
        is_single = split is not None and folds is None and len(documents) == 1
        echo_json(documents[0] if is_single else documents)
        return
    every = [summary for _, summaries in runs for summary in summaries]
    _echo_trunk(every)
    say_next_after_extract(options, every, folds)


def _show_progress(bar: "ProgressBar", pace: "Pace", before_embedding: Callable[[], None], now: "Progress") -> None:
    """Show how far a split is, and call `before_embedding` where there is something to embed."""
    if not now.split:  # it waits for another process
        echo_stderr(f"note: {now.stage}")
        return
    if now.stage != "reading":
        before_embedding()
    rate = f"{now.embedded / now.seconds:,.1f} images/s" if now.embedded and now.seconds else now.stage
    left = pace.time_left(now.split, now.done, now.total, now.seconds) if now.embedded else ""
    detail = f"{rate}  {left}  {now.bound}"
    bar.show(f"{now.split}", now.done, now.total, detail)


def _warn(summaries: "list[Summary]", warned: set[str]) -> None:
    """Print what a person must know, each line once: what is said of the whole data set stands in every summary."""
    from featcache.report import extract_warnings

    for line in (line for summary in summaries for line in extract_warnings(summary)):
        if line not in warned:
            echo_stderr(line)
        warned.add(line)


def _show(fold: int | None, summaries: "list[Summary]") -> None:
    """Print what was done of each split, that of a fold under its number."""
    if fold is not None:
        echo(f"fold {fold}")
    _echo_summaries(summaries)
    sys.stdout.flush()  # in a pipe, too, each fold is to be seen as it ends


def _echo_trunk(summaries: "list[Summary]") -> None:
    """Print how the forward ran, with which transform, and where the embeddings are."""
    from featcache.files.objects import parse_path

    for engine in dict.fromkeys(summary.engine for summary in summaries if summary.engine):  # chosen once
        echo(engine)
    if summaries[0].transform:
        echo(summaries[0].transform)
    for store, summary in {summary.store: summary for summary in summaries}.items():
        echo(f"{summary.trunk}: {relative_path(parse_path(summary.cache) / 'stores' / store)}")


def _echo_summaries(summaries: "list[Summary]") -> None:
    """Print what was done of each split: once for all layers and views of which the same is to be said."""
    from featcache.report import extract_sentence, extract_time_shares

    for split in dict.fromkeys(summary.split for summary in summaries):
        by_sentence: dict[str, list[Summary]] = {}
        for summary in summaries:
            if summary.split == split:
                by_sentence.setdefault(extract_sentence(summary), []).append(summary)
        for sentence, alike in by_sentence.items():
            of_what = "" if len(by_sentence) == 1 else f"{_name_stores(alike)}: "
            echo(f"{of_what}{sentence}")
        longest = max(summaries, key=lambda summary: (summary.split == split, summary.embedded))
        for line in (extract_time_shares(longest), longest.held_back):
            if line:
                echo(f"  {line}")


def _name_stores(summaries: "list[Summary]") -> str:
    """Return which layers, and which views of them, these summaries are of."""
    layers: dict[str, list[str]] = {}
    for summary in summaries:
        name = "plain" if summary.view is None else f"view {summary.view.number}"
        layers.setdefault(summary.layer, []).append(name)
    has_views = any(names != ["plain"] for names in layers.values())
    return ", ".join(f"{layer} ({', '.join(names)})" if has_views else layer for layer, names in layers.items())
