"""`featcache data` and `featcache extract`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featcache.cli.app import (
    Json,
    Precision,
    Store,
    Weights,
    command,
    complain,
    console,
    print_json,
    refuse_unused,
    say,
    short,
)
from featcache.recipe import Where

if TYPE_CHECKING:
    from featcache.extraction import Progress


@command("data")
def data_set(
    *,
    split: Annotated[
        list[str] | None, typer.Option("--split", help="One split, or several; every one without.")
    ] = None,
    near: Annotated[
        float | None, typer.Option("--near", help="Images this near (a cosine) to another split's, once extracted.")
    ] = None,
    where: Where,
    store: Store = None,
    weights: Weights = None,
    precision: Precision = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", help="Write rows per class and split; with --near, the pairs.")
    ] = None,
    as_json: Json = False,
) -> None:
    """What is in the data set: counts, imbalance, clips, shared and conflicting images, leaks between splits."""
    from featcache.dataset import describe, near_duplicates
    from featcache.report import (
        Bar,
        check_destination,
        render_data_summary,
        render_near_duplicates,
        save_near_duplicates_csv,
        save_summary_csv,
    )

    if near is None:
        refuse_unused(("store", "weights", "precision"), "without --near: what is counted is the data set, not a store")
    if csv is not None:
        check_destination(csv, ".csv")
    contents = describe(splits=split, **where)
    found = None
    if near is not None:
        with Bar(console(stderr=True)) as bar:
            found = near_duplicates(
                near,
                progress=lambda done, total: bar.show("comparing", done // 10**6, total // 10**6, "million pairs"),
                store=store,
                weights=weights,
                precision=precision,
                **where,
            )
    if csv is not None:
        save_summary_csv(contents, csv) if found is None else save_near_duplicates_csv(found, csv)
    if as_json:
        print_json(contents.to_json() | ({} if found is None else {"near": found.to_json()}))
        return
    render_data_summary(contents, console())
    if found is not None:
        say("")
        render_near_duplicates(found, console())
    if csv is not None:
        say(f"wrote {short(csv)}")


@command()
def extract(
    *,
    split: Annotated[str | None, typer.Option("--split", help="One split; without it, every split.")] = None,
    where: Where,
    arch: Annotated[str | None, typer.Option("--arch", help="vit_b_16, vit_b_32, vit_l_16, …")] = None,
    weights: Weights = None,
    precision: Precision = None,
    stored: Annotated[str | None, typer.Option("--stored", help="float32 or float16, on disk.")] = None,
    decode: Annotated[
        str | None, typer.Option("--decode", help="exact, fast, or gpu (CUDA, then and ever after); a store for each.")
    ] = None,
    device: Annotated[
        str, typer.Option("--device", help="auto, all, cpu, cuda, cuda:N, cuda:N,cuda:M or mps.")
    ] = "auto",
    engine: Annotated[str, typer.Option("--engine", help="auto, eager, compile or openvino.")] = "auto",
    workers: Annotated[int | None, typer.Option("--workers", help="Processes that read and decode.")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="Images in one forward pass.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", help="A stratified part: so many images.")] = None,
    fraction: Annotated[float | None, typer.Option("--fraction", help="A stratified part: this share.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of --limit and --fraction; 0 without.")] = None,
    max_bad: Annotated[float, typer.Option("--max-bad", help="The share of images that may be unreadable.")] = 0.01,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try unreadable images again.")] = False,
    shard_rows: Annotated[int, typer.Option("--shard-rows", help="Publish after so many embeddings …")] = 16_384,
    shard_seconds: Annotated[float, typer.Option("--shard-seconds", help="… or after so many seconds.")] = 60.0,
    wait: Annotated[float, typer.Option("--wait", help="Seconds, for a store that another process writes to.")] = 0.0,
    as_json: Json = False,
) -> None:
    """Stage one: embed the images that the cache lacks. Safe to stop at any moment, safe to run again."""
    from featcache.extraction import Settings, extract
    from featcache.report import Bar, left, sentence_of, shares_of, warnings_of

    settings = Settings(
        device=device, engine=engine, workers=workers, batch_size=batch_size, max_bad=max_bad,
        retry_failed=retry_failed, shard_rows=shard_rows, shard_seconds=shard_seconds, wait=wait,
    )  # fmt: skip
    with Bar(console(stderr=True)) as bar:

        def show(now: "Progress") -> None:
            if not now.split:  # it waits for another process
                complain(f"note: {now.stage}")
                return
            rate = f"{now.embedded / now.seconds:,.1f} images/s" if now.embedded and now.seconds else now.stage
            detail = f"{rate}  {left(now.done, now.total, now.seconds)}  {now.bound}"
            bar.show(f"{now.split}", now.done, now.total, detail)

        summaries = extract(
            split, arch=arch, weights=weights, precision=precision, stored=stored, decode=decode, limit=limit,
            fraction=fraction, seed=seed, settings=settings, progress=show, **where,
        )  # fmt: skip
    warnings = [line for summary in summaries for line in warnings_of(summary)]
    for line in dict.fromkeys(warnings):  # what is said of the whole data set stands in every summary
        complain(line)
    if as_json:
        documents = [summary.to_json() for summary in summaries]
        print_json(documents[0] if split is not None else documents)
        return
    for summary in summaries:
        say(sentence_of(summary))
        for line in (shares_of(summary), summary.held_back):
            if line:
                say(f"  {line}")
    for engine_line in dict.fromkeys(summary.engine for summary in summaries if summary.engine):  # chosen once
        say(engine_line)
    if summaries[0].transform:
        say(summaries[0].transform)
    say(f"{summaries[0].trunk}: {short(Path(summaries[0].cache) / 'stores' / summaries[0].store)}")
