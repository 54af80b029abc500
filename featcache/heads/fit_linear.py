"""Stage two: train heads on cached embeddings, choose one, and hold a linear one against the optimum."""

import time
from collections.abc import Callable, Sequence
from typing import Unpack

from featcache.arguments import checked
from featcache.cluster import ClusterOptions
from featcache.dataset import DatasetRequest
from featcache.errors import CacheError
from featcache.features import EmbeddingPool, Streamed, drop_views
from featcache.heads.check_seconds import (
    CHECK_SECONDS,
    refuse_check_of_module,
    refuse_check_seconds,
    seconds_of_check,
)
from featcache.heads.cluster_training import HeadCluster, SplitsRequest, describe_head_workers
from featcache.heads.config import HeadConfig
from featcache.heads.default_grid import fill_in_defaults
from featcache.heads.fit_result import Fit
from featcache.heads.given_settings import has_views, head_section
from featcache.heads.grid import HeadOptions, head_configs
from featcache.heads.linear import LinearHead, best_of
from featcache.heads.modules import TrainedHead
from featcache.heads.notes import best_linear, compare_with_linear, notes_of_heads
from featcache.heads.preparation import TrainingPreparation
from featcache.heads.saved import (
    keep_temperature,
    record_run,
    refuse_given_name,
    save_head,
)
from featcache.heads.splits import Splits, refuse_clips_on_disk
from featcache.heads.target_settings import fit_to_targets, never_from_disk, refuse_check_of_targets
from featcache.heads.tokens import count_tokens
from featcache.heads.training import refuse_bfloat16
from featcache.heads.training_device import choose_training_device
from featcache.recipe import LABEL, LINEAR, TEMPORAL, HeadKeywords, StoreOptions, pick_options
from featcache.text import metric_in_words

COMPILING = "compiling the training loops, once after an installation"


@checked
def fit_head(
    lr: float | Sequence[float] | None = None,
    *,
    grid: str | None = None,
    device: str = "auto",
    check_seconds: float | str | None = CHECK_SECONDS,
    from_disk: bool | None = None,
    head_name: str | None = None,
    cluster: ClusterOptions | None = None,
    progress: Callable[[str, int, int], None] = lambda *_: None,
    **settings: Unpack[HeadOptions],
) -> Fit:
    """Train a head for each learning rate, or each point of a grid, on the cached train split; choose on val.

    `head` says which: "linear" (one layer), "mlp", "attention" (over an image's tokens) or "temporal" (over a clip's
    frames); docs/guides/heads.md has the settings of each.

    Args:
        lr: The learning rate, or several; None: as the recipe has it, and where it has none a small grid: see
            `featcache.heads.default_grid`.
        grid: What `--grid` takes: "lr=0.003,0.03 weight_decay=0,1e-4".
        device: Where the heads are trained: "auto", "cpu", "cuda", "cuda:N" or "mps".
        check_seconds: How long the check against the optimum may take; "auto": 5 s, or a quarter of the training where
            that is more; None leaves it out.
        from_disk: Whether the training rows stay on disk and are read as they are needed; None: where they do not fit
            into memory.
        head_name: A name for the best head, which stands for it from now on; None leaves it without one.
        cluster: A cluster of Ray whose nodes train several heads; None: this machine does.
        progress: Gets the stage ("reading", `COMPILING`, "training", "checking"), the epochs done and those to do.
        **settings: Which features, and settings of the recipe's head section, `select` (the metric on val that
            chooses: macro_recall, accuracy or loss) among them. What is None comes from the recipe.

    Returns:
        The heads, all of them saved, in the order of the grid, and the best of them.

    Raises:
        UsageError: a setting or the recipe.
        CacheError: the train split is not in the cache, or a file of it is damaged; several heads, or patience, and no
            val split to choose by; or another process holds the log of runs.
        DataError: a single class, or a split without rows.
        MachineError: no such device, or memory or disk are full.
    """
    return fit_with_pool(
        None, lr, grid=grid, device=device, check_seconds=check_seconds, from_disk=from_disk, head_name=head_name,
        cluster=cluster, progress=progress, **settings,
    )  # fmt: skip


def fit_with_pool(
    pool: EmbeddingPool | None,
    lr: float | Sequence[float] | None,
    *,
    grid: str | None,
    device: str,
    check_seconds: float | str | None,
    from_disk: bool | None,
    head_name: str | None,
    cluster: ClusterOptions | None,
    progress: Callable[[str, int, int], None],
    **settings: Unpack[HeadOptions],
) -> Fit:
    """Train heads as `fit_head` does, on embeddings that earlier calls may have read.

    Args:
        pool: Of embeddings, shared by the listings of one data set; None: they are read for this call alone.
        lr: As for `fit_head`, as the rest.
        grid: Likewise.
        device: Likewise.
        check_seconds: Likewise.
        from_disk: Likewise.
        head_name: Likewise.
        cluster: Likewise.
        progress: Likewise.
        **settings: Likewise.

    Raises:
        FeatcacheError: as `fit_head`.
    """
    refuse_check_seconds(check_seconds)
    refuse_given_name(head_name)
    options, flags = pick_options(settings, StoreOptions), pick_options(settings, HeadKeywords)
    request = DatasetRequest(**options)
    section = head_section(request.recipe, grid, {"lr": lr, **flags})
    refuse_check_of_module(section.head, check_seconds)
    kind = request.recipe.data.target_kind
    refuse_check_of_targets(kind, check_seconds, CHECK_SECONDS)
    section = fit_to_targets(section, kind, [name for name, value in flags.items() if value is not None])
    from_disk = never_from_disk(kind, from_disk)
    # What is wrong with the settings is said before anything is read.
    refuse_bfloat16(head_configs(section), device, exact=section.exact)
    progress("reading", 0, section.epochs)
    preparation = TrainingPreparation()
    if section.head == TEMPORAL:
        refuse_clips_on_disk(from_disk)
    rows = SplitsRequest(
        options=options, head=section.head, frames=section.frames, from_disk=from_disk, with_views=has_views(section),
        augment=section.augment,
    )  # fmt: skip
    splits = rows.read(pool)
    section = count_tokens(section, splits.source)
    section, experiment = fill_in_defaults(section, len(splits.train.y), has_val=splits.val is not None)
    configs = head_configs(section)
    _refuse_choice_without_val(request, splits, configs)
    unused = [experiment] if experiment else []
    if flags.get("select") is not None and len(configs) == 1 and configs[0].patience is None:
        unused.append(f"--select {section.select} has no effect: with a single head there is nothing to choose")
    if cluster is not None and len(configs) == 1:
        unused.append("--ray has no effect: with a single head there is nothing to spread")
    if from_disk and check_seconds is not None and section.head == LINEAR:
        unused.append("the check needs the training rows in memory: it is left out with --from-disk")

    if kind == LABEL:
        preparation.wait(lambda: progress(COMPILING, 0, section.epochs))
    from featcache.heads.training import train_heads  # torch is imported where it is needed

    begun = time.monotonic()
    if cluster is not None and len(configs) > 1:
        worker_settings = describe_head_workers(rows, splits, select=section.select, device=device, exact=section.exact)
        with HeadCluster(cluster, worker_settings) as workers:
            trained = workers.train(configs, lambda done, epochs: progress("training", done, epochs))
        device = "cpu"  # of the check, here
    else:
        device = choose_training_device(device, exact=section.exact)
        trained = train_heads(
            splits.train, splits.val, configs, select=section.select, device=device,
            progress=lambda done, epochs: progress("training", done, epochs),
            on_compile=lambda: progress(COMPILING, 0, section.epochs),
        )  # fmt: skip
    seconds = time.monotonic() - begun
    return keep_heads(
        splits,
        trained,
        section.select,
        is_choice=len(trained) > 1,
        check_seconds=check_seconds,
        train_seconds=seconds,
        device=device,
        notes=unused,
        given_name=head_name or "",
        before_check=lambda: progress("checking", section.epochs, section.epochs),
    )


def keep_heads(
    splits: Splits,
    trained: Sequence[TrainedHead],
    select: str,
    *,
    is_choice: bool,
    check_seconds: float | str | None,
    train_seconds: float,
    device: str,
    begun: float | None = None,
    notes: Sequence[str] = (),
    given_name: str = "",
    before_check: Callable[[], None] = lambda: None,
) -> Fit:
    """Return trained heads as they are kept, with the check of the best; the run is recorded.

    Args:
        splits: What the heads were trained on and are chosen by.
        trained: The heads, in the order of the grid.
        select: The metric on val that chooses.
        is_choice: Whether the best one was chosen among others.
        check_seconds: How long the check may take, see `fit_head`; None leaves it out.
        train_seconds: How long the training took.
        device: Where the check computes.
        begun: When the run began, by `time.monotonic`, where more than the training counts as its time.
        notes: What is noted before all else.
        given_name: What a person calls the best head; "" where nobody named it.
        before_check: Called where a check begins.
    """
    train, val = splits.train, splits.val
    plain = train if isinstance(train, Streamed) else drop_views(train)
    heads = tuple(save_head(splits.source, head, train if head.config.views else plain, val) for head in trained)
    temperatures = {saved.name: keep_temperature(saved, val) for saved in heads}
    chosen = best_of(trained, select)
    best = None if chosen is None else heads[chosen]
    selected_by = f"{metric_in_words(select)} on val" if is_choice and best is not None else ""
    check = None
    linear = [head for head in trained if isinstance(head, LinearHead) and head.config.targets == LABEL]
    if (
        best is not None
        and best.head in linear
        and isinstance(best.head, LinearHead)
        and check_seconds
        and not isinstance(train, Streamed)
    ):
        before_check()
        check_begun = time.perf_counter()  # what it imports counts
        from featcache.heads.optimum import check_and_advise
        from featcache.heads.training import normalize_rows
        from featcache.trunks import choose_device

        budget = seconds_of_check(check_seconds, train_seconds if begun is None else time.monotonic() - begun)
        normalize = best.head.config.normalize
        rows = normalize_rows(train, normalize), None if val is None else normalize_rows(val, normalize)
        check = check_and_advise(
            best.head, linear, *rows, budget, train_seconds, choose_device(device), select=select, began=check_begun,
        )  # fmt: skip
    seconds = train_seconds if begun is None else time.monotonic() - begun
    best_name = None if best is None else best.name
    handles = record_run(
        splits.source, train, heads, best=best_name, seconds=seconds, selected_by=selected_by, check=check,
        given_name=given_name,
    )  # fmt: skip
    linear_beside = best_linear(splits.source, best)
    return Fit(
        heads=heads,
        best=best,
        select=select,
        selected_by=selected_by,
        check=check,
        train_rows=len(train.y),
        val_rows=None if val is None else len(val.y),
        seconds=seconds,
        notes=(
            *notes,
            *splits.notes,
            *notes_of_heads(train, val, heads),
            *compare_with_linear(best, linear_beside, handles),
            *handles.note_on_moved(given_name),
        ),
        handles=handles,
        temperatures=temperatures,
        linear=linear_beside[0],
    )


def _refuse_choice_without_val(request: DatasetRequest, splits: Splits, configs: Sequence[HeadConfig]) -> None:
    if splits.val is None and (len(configs) > 1 or configs[0].patience):
        chooser = f"a choice among {len(configs)} heads" if len(configs) > 1 else "patience"
        raise CacheError(
            f"{splits.train.source['data_set']}: {chooser} needs a val split, and the cache has none (test is kept "
            f"for the report); {request.advise_extract('val')}. Or train a single head without --patience."
        )
