"""The command line: each command parses, calls one function, and prints. Heavy imports wait until they are needed."""

import contextlib
import errno
import functools
import io
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import featcache
from featcache.errors import FeatcacheError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from featcache.extraction import Progress

INTERRUPTED = 130
app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Run a frozen vision trunk over your images once; every classifier experiment after that takes seconds.",
)

Pipeline = Annotated[
    str | None,
    typer.Option(
        "--pipeline", "-p", envvar="FEATCACHE_PIPELINE", help="A recipe: the path of a .toml file, or a name.",
        rich_help_panel=None,
    ),
]  # fmt: skip
Data = Annotated[str | None, typer.Option("--data", help="The folder of images: <root>/<split>/<class>/…/image.")]
Cache = Annotated[str | None, typer.Option("--cache", help="The cache folder.  [env: FEATCACHE_CACHE; default: cache]")]
Name = Annotated[str | None, typer.Option("--name", help="The data set's name in the cache.")]
Store = Annotated[str | None, typer.Option("--store", help="One store, where several hold this data set.")]
Weights = Annotated[
    str | None, typer.Option("--weights", help="A published name, a .pth or .safetensors file, or random.")
]
Precision = Annotated[str | None, typer.Option("--precision", help="auto, fp32 or bf16.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, and nothing else there.")]


def main() -> None:
    """The console script."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us: `featcache info >&-`
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 (it lives as long as we do)
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # an ASCII terminal shows escapes instead of failing
    try:
        app(prog_name="featcache")
    except OSError as error:  # --help and --version, which no command wraps
        _complain(f"error: the output cannot be written: {error.strerror}")
        os._exit(5)


def _told(command: Callable[..., None]) -> Callable[..., None]:
    """Turn what goes wrong into one message on stderr and an exit code; a traceback is for FEATCACHE_DEBUG."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        for ending in (signal.SIGTERM, signal.SIGHUP):
            with contextlib.suppress(ValueError):  # not in the main thread
                if signal.getsignal(ending) is not signal.SIG_IGN:  # nohup
                    signal.signal(ending, signal.default_int_handler)  # a batch system's end is a Ctrl-C
        try:
            command(*args, **kwargs)
            sys.stdout.flush()
        except KeyboardInterrupt:
            safe = "; what was committed is safe, and the same command goes on from there"
            _complain("interrupted" + (safe if command.__name__ == "extract" else ""))
            raise typer.Exit(INTERRUPTED) from None
        except FeatcacheError as error:
            _complain(f"error: {error}")
            raise typer.Exit(error.exit_code) from None
        except BrokenPipeError:  # `featcache report | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):  # of stdout
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                _complain(f"error: the output cannot be written: {error.strerror}")
                raise typer.Exit(5) from None
            if os.environ.get("FEATCACHE_DEBUG"):
                traceback.print_exc()
            _complain(
                f"error: {type(error).__name__}: {error}\nThis is a bug in featcache, not a mistake of yours; "
                f"what was committed is safe. FEATCACHE_DEBUG=1 shows where it happened."
            )
            raise typer.Exit(1) from None

    return run


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    if version:
        print(f"featcache {featcache.__version__}")
        raise typer.Exit


@app.command("data")
@_told
def data_set(
    split: Annotated[
        list[str] | None, typer.Option("--split", help="One split, or several; every one without.")
    ] = None,
    near: Annotated[
        float | None, typer.Option("--near", help="Images this near (a cosine) to another split's, once extracted.")
    ] = None,
    pipeline: Pipeline = None,
    data: Data = None,
    cache: Cache = None,
    name: Name = None,
    store: Store = None,
    weights: Weights = None,
    precision: Precision = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", help="Write rows per class and split; with --near, the pairs.")
    ] = None,
    as_json: Json = False,
) -> None:
    """What is in the data set: counts, imbalance, clips, shared and conflicting images, leaks between splits."""
    from featcache.contents import describe
    from featcache.near import near_duplicates
    from featcache.report import contents as show
    from featcache.report.progress import Bar
    from featcache.report.tables import check_destination

    if csv is not None:
        check_destination(csv, ".csv")
    contents = describe(splits=split, pipeline=pipeline, data=data, cache=cache, name=name)
    found = None
    if near is not None:
        with Bar(_console(stderr=True)) as bar:
            found = near_duplicates(
                near, pipeline=pipeline, data=data, cache=cache, name=name, store=store, weights=weights,
                precision=precision,
                progress=lambda done, total: bar.show("comparing", done // 10**6, total // 10**6, "million pairs"),
            )  # fmt: skip
    if csv is not None:
        show.save_csv(contents, csv) if found is None else show.save_near_csv(found, csv)
    if as_json:
        _print_json(contents.to_json() | ({} if found is None else {"near": found.to_json()}))
        return
    show.draw(contents, _console())
    if found is not None:
        _print("")
        show.draw_near(found, _console())
    if csv is not None:
        _print(f"wrote {_short(csv)}")


@app.command()
@_told
def extract(
    split: Annotated[str | None, typer.Option("--split", help="One split; without it, every split.")] = None,
    pipeline: Pipeline = None,
    data: Data = None,
    cache: Cache = None,
    name: Name = None,
    arch: Annotated[str | None, typer.Option("--arch", help="vit_b_16, vit_b_32, vit_l_16, …")] = None,
    weights: Weights = None,
    precision: Precision = None,
    stored: Annotated[str | None, typer.Option("--stored", help="float32 or float16, on disk.")] = None,
    device: Device = "auto",
    workers: Annotated[int | None, typer.Option("--workers", help="Processes that read and decode.")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="Images in one forward pass.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", help="A stratified part: so many images.")] = None,
    fraction: Annotated[float | None, typer.Option("--fraction", help="A stratified part: this share.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of --limit and --fraction.")] = 0,
    max_bad: Annotated[float, typer.Option("--max-bad", help="The share of images that may be unreadable.")] = 0.01,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try unreadable images again.")] = False,
    shard_rows: Annotated[int, typer.Option("--shard-rows", help="Publish after so many embeddings …")] = 16_384,
    shard_seconds: Annotated[float, typer.Option("--shard-seconds", help="… or after so many seconds.")] = 60.0,
    as_json: Json = False,
) -> None:
    """Stage one: embed the images that the cache lacks. Safe to stop at any moment, safe to run again."""
    from featcache import extraction
    from featcache.report import stages
    from featcache.report.progress import Bar, left

    settings = extraction.Settings(
        device=device, workers=workers, batch_size=batch_size, max_bad=max_bad, retry_failed=retry_failed,
        shard_rows=shard_rows, shard_seconds=shard_seconds,
    )  # fmt: skip
    with Bar(_console(stderr=True)) as bar:

        def show(now: "Progress") -> None:
            rate = f"{now.embedded / now.seconds:,.1f} images/s" if now.embedded and now.seconds else now.stage
            bar.show(f"{now.split}", now.done, now.total, f"{rate}  {left(now.done, now.total, now.seconds)}")

        summaries = extraction.extract(
            split, pipeline=pipeline, data=data, cache=cache, name=name, arch=arch, weights=weights,
            precision=precision, stored=stored, limit=limit, fraction=fraction, seed=seed, settings=settings,
            progress=show,
        )  # fmt: skip
    for summary in summaries:
        for line in stages.warnings_of(summary):
            _complain(line)
    if as_json:
        documents = [summary.to_json() for summary in summaries]
        _print_json(documents[0] if split is not None else documents)
        return
    for summary in summaries:
        _print(stages.sentence_of(summary))
    _print(f"{summaries[0].trunk}: {_short(Path(summaries[0].cache) / 'stores' / summaries[0].store)}")


@app.command("fit-head")
@_told
def fit_head(
    lr: Annotated[list[float] | None, typer.Option("--lr", help="A learning rate; several train side by side.")] = None,
    pipeline: Pipeline = None,
    data: Data = None,
    cache: Cache = None,
    name: Name = None,
    store: Store = None,
    weights: Weights = None,
    precision: Precision = None,
    grid: Annotated[
        str | None, typer.Option("--grid", help='Every combination: "lr=0.003,0.03 weight_decay=0,1e-4 seed=0,1".')
    ] = None,
    select: Annotated[
        str | None, typer.Option("--select", help="What chooses, on val: macro_recall, accuracy or loss.")
    ] = None,
    optimizer: Annotated[str | None, typer.Option("--optimizer", help="sgd, adam or adamw.")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size")] = None,
    momentum: Annotated[float | None, typer.Option("--momentum")] = None,
    weight_decay: Annotated[float | None, typer.Option("--weight-decay")] = None,
    clip_norm: Annotated[float | None, typer.Option("--clip-norm", help="Of each head's whole gradient.")] = None,
    schedule: Annotated[str | None, typer.Option("--schedule", help="cosine, constant or plateau.")] = None,
    warmup: Annotated[float | None, typer.Option("--warmup", help="Epochs over which the learning rate rises.")] = None,
    patience: Annotated[
        int | None, typer.Option("--patience", help="Stop after so many epochs without a better val score.")
    ] = None,
    class_weights: Annotated[str | None, typer.Option("--class-weights", help="none or balanced.")] = None,
    sampler: Annotated[str | None, typer.Option("--sampler", help="uniform or balanced: a class, then a row.")] = None,
    logit_adjustment: Annotated[
        float | None, typer.Option("--logit-adjustment", help="tau, 1 for the Bayes rule of macro recall.")
    ] = None,
    label_smoothing: Annotated[float | None, typer.Option("--label-smoothing")] = None,
    standardize: Annotated[
        bool | None, typer.Option("--standardize/--no-standardize", help="Each dimension to mean 0 and deviation 1.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of the order of the rows.")] = None,
    device: Device = "auto",
    check_seconds: Annotated[float, typer.Option("--check-seconds", help="What the check may take.")] = 30.0,
    no_check: Annotated[bool, typer.Option("--no-check", help="Leave out the convex optimum.")] = False,
    as_json: Json = False,
) -> None:
    """Stage two: train linear heads on the cached embeddings, and hold the best against the convex optimum."""
    from featcache.heads.fit import fit_head
    from featcache.report.progress import Bar
    from featcache.report.stages import fit_parts

    with Bar(_console(stderr=True)) as bar:
        fit = fit_head(
            lr, grid=grid, pipeline=pipeline, data=data, cache=cache, name=name, store=store, weights=weights,
            precision=precision, epochs=epochs, batch_size=batch_size, momentum=momentum, weight_decay=weight_decay,
            clip_norm=clip_norm, seed=seed, device=device, select=select, optimizer=optimizer, schedule=schedule,
            warmup=warmup, patience=patience, class_weights=class_weights, sampler=sampler,
            logit_adjustment=logit_adjustment, label_smoothing=label_smoothing, standardize=standardize,
            check_seconds=None if no_check else check_seconds,
            progress=lambda stage, done, total: bar.show(stage, done, total, "epochs"),
        )  # fmt: skip
    if as_json:
        _print_json(fit.to_json())
    else:
        for part in fit_parts(fit):
            _console().print(part)
        if fit.best is not None:
            _print(f"saved in {_short(fit.best.folder)}")
    for note in fit.notes:
        _complain(f"note: {note}")


@app.command()
@_told
def search(
    trials: Annotated[int, typer.Option("--trials", help="How many the study shall hold, earlier ones included.")] = 50,
    pipeline: Pipeline = None,
    data: Data = None,
    cache: Cache = None,
    name: Name = None,
    store: Store = None,
    weights: Weights = None,
    precision: Precision = None,
    select: Annotated[
        str | None, typer.Option("--select", help="What chooses, on val: macro_recall, accuracy or loss.")
    ] = None,
    optimizer: Annotated[str | None, typer.Option("--optimizer", help="Held fixed: sgd, adam or adamw.")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of the search and of the order of the rows.")] = None,
    device: Device = "auto",
    check_seconds: Annotated[float, typer.Option("--check-seconds", help="What the check may take.")] = 30.0,
    no_check: Annotated[bool, typer.Option("--no-check", help="Leave out the convex optimum.")] = False,
    as_json: Json = False,
) -> None:
    """Bayesian search over a head's settings, pruned on val; the same command again goes on where it was."""
    from featcache.heads.search import search
    from featcache.report.progress import Bar
    from featcache.report.stages import search_parts

    with Bar(_console(stderr=True)) as bar:
        found = search(
            trials, pipeline=pipeline, data=data, cache=cache, name=name, store=store, weights=weights,
            precision=precision, select=select, optimizer=optimizer, epochs=epochs, batch_size=batch_size, seed=seed,
            device=device, check_seconds=None if no_check else check_seconds,
            progress=lambda stage, done, total: bar.show(stage, done, total, "trials"),
        )  # fmt: skip
    if as_json:
        _print_json(found.to_json())
    else:
        for part in search_parts(found):
            _console().print(part)
        if found.fit.best is not None:
            _print(f"saved in {_short(found.fit.best.folder)}")
    for note in found.fit.notes:
        _complain(f"note: {note}")


@app.command()
@_told
def report(
    head: Annotated[
        str | None, typer.Argument(help="A head's name, or how it starts; the newest best without.")
    ] = None,
    split: Annotated[str | None, typer.Option("--split", help="test where there is one, else val.")] = None,
    pipeline: Pipeline = None,
    data: Data = None,
    cache: Cache = None,
    name: Name = None,
    store: Store = None,
    weights: Weights = None,
    precision: Precision = None,
    png: Annotated[Path | None, typer.Option("--png", help="Write matrix and recall bars as a picture.")] = None,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write classes and matrix as a table.")] = None,
    allow_shared_subjects: Annotated[
        bool, typer.Option("--allow-shared-subjects", help="Evaluate on people who stand in train too.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Recall per class and the confusion matrix of a head."""
    from featcache.report.evaluate import evaluate
    from featcache.report.evaluation import to_json
    from featcache.report.tables import check_destination, save_csv

    for path, suffix in ((png, ".png"), (csv, ".csv")):
        if path is not None:
            check_destination(path, suffix)
    evaluation = evaluate(
        head, split=split, pipeline=pipeline, data=data, cache=cache, name=name, store=store, weights=weights,
        precision=precision, allow_shared_subjects=allow_shared_subjects,
    )  # fmt: skip
    if png is not None:
        from featcache.report.figure import save_png

        save_png(evaluation, png)
    if csv is not None:
        save_csv(evaluation, csv)
    if as_json:
        _print_json(to_json(evaluation))
        return
    from featcache.report.terminal import draw

    draw(evaluation, _console())
    for path in (png, csv):
        if path is not None:
            _print(f"wrote {_short(path)}")


@app.command()
@_told
def info(
    pipeline: Pipeline = None,
    data: Data = None,
    cache: Cache = None,
    name: Name = None,
    arch: Annotated[str | None, typer.Option("--arch")] = None,
    weights: Weights = None,
    as_json: Json = False,
) -> None:
    """What the cache holds, and what the trunk and a head on it weigh."""
    from featcache.inspect import info
    from featcache.report.stages import many

    found = info(pipeline=pipeline, data=data, cache=cache, name=name, arch=arch, weights=weights)
    if as_json:
        _print_json(found)
        return
    trunk = found["trunk"]
    classes = trunk["classes"] or 34
    head = (trunk["dim"] + 1) * classes
    example = "" if trunk["classes"] else f" (an example: {found['data_set']!r} is not in this cache)"
    _print(f"featcache {found['version']}, cache {_short(Path(found['cache']))}")
    _print(f"trunk {trunk['arch']}, weights {trunk['weights']}: {trunk['frozen_parameters']:,} frozen parameters")
    _print(f"head of {classes} classes: {head:,} parameters{example}")
    for store in found["stores"]:
        _print(
            f"\n{store['name']}: {store['rows']:,} embeddings of {store['dim'] or 0} ({store['compute']}, stored as "
            f"{store['stored']}), {many(store['shards'], 'shard')}, {store['bytes'] / 1e6:,.1f} MB, "
            f"{many(store['heads'], 'head')}"
        )
        for listing in store["listings"]:
            _print(f"  {listing}")
        for made in store["made"]:
            versions = ", ".join(f"{package} {number}" for package, number in made["versions"].items())
            _print(f"  made on {made['device']}, batches of {made['batch_size']}, with {versions}")
    if not found["stores"]:
        _print("no store yet: `featcache extract` makes one")


@app.command()
@_told
def verify(cache: Cache = None, as_json: Json = False) -> None:
    """Every problem in the cache, not the first one: the logs, all hashes, the heads."""
    from dataclasses import asdict

    from featcache.inspect import verify
    from featcache.report.progress import Bar
    from featcache.report.stages import many

    with Bar(_console(stderr=True)) as bar:
        problems = verify(
            cache=cache,
            progress=lambda done, total: bar.show("hashing", done // 10**6, total // 10**6, "MB"),
        )
    if as_json:
        _print_json({"problems": [asdict(problem) for problem in problems]})
    else:
        for problem in problems:
            _print(f"{problem.kind}: {problem.message}")
        _print(many(len(problems), "problem"))
    if problems:
        raise typer.Exit(3)


@app.command()
@_told
def demo(cache: Cache = None) -> None:
    """The whole way on 500 handwritten digits, which need no download: extract, fit-head, report."""
    from featcache import demo as digits

    if Path("featcache.toml").exists():
        raise UsageError("featcache.toml stands here: the demo would mix with your project; run it in another folder")
    root = Path("data/digits")
    if not root.exists():
        _print(f"writing 500 scans of handwritten digits to {root}")
        digits.write_digits(root)
    _print(f"asking for the pretrained weights (at most {digits.PROBE_SECONDS:.0f} s)")
    trained = digits.pretrained()
    if not trained:
        _print(
            "\n*** The pretrained weights are out of reach: the trunk is RANDOM (seeded); the scores below show the "
            "pipeline, not the model. ***"
        )
    for command in digits.commands(trained=trained):
        _print(f"\n$ {command}")
        sys.stdout.flush()
        environment = os.environ | ({"FEATCACHE_CACHE": cache} if cache else {})
        code = subprocess.run(command.argv, check=False, env=environment).returncode
        if code:
            raise typer.Exit(code)


def _console(*, stderr: bool = False) -> "Console":
    from featcache.report.console import Plain

    return Plain(stderr=stderr, highlight=False, markup=False, emoji=False)


def _print(text: str) -> None:
    from featcache.report.text import printable

    print("\n".join(printable(line) for line in text.split("\n")))


def _complain(text: str) -> None:
    from featcache.report.text import printable

    with contextlib.suppress(OSError):  # nobody listens; the exit code says it too
        for line in text.split("\n"):
            print(printable(line), file=sys.stderr)


def _print_json(document: Any) -> None:
    print(json.dumps(document, indent=2, allow_nan=False))


def _short(path: Path) -> str:
    """A path as a person would type it here."""
    with contextlib.suppress(ValueError):
        return str(path.absolute().relative_to(Path.cwd()))
    return str(path)
