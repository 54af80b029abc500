"""`featcache finetune`: the network itself, trained on the images of the same splits, and kept as a trunk and a head.

The trained network is a trunk with weights of its own, in a file of the cache, and a linear head on its embeddings, in
the store of that trunk: whatever works on embeddings and heads works on it. The store of the frozen trunk is not
touched.
"""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from featcache.arguments import checked
from featcache.dataset import DatasetRequest
from featcache.errors import CacheError, MachineError, UsageError
from featcache.files import expand_home
from featcache.finetuning.augmentation_text import read_augmentation
from featcache.finetuning.listings import SplitListings, list_splits
from featcache.finetuning.loggers import LoggerChoice
from featcache.finetuning.settings import finetune_section
from featcache.finetuning.start import Start, find_start
from featcache.heads import EpochRow, Fit, fit_to_targets, loss_of, refuse_settings_of_classes
from featcache.heads.saved import refuse_given_name, scores_to_json
from featcache.recipe import (
    FROM_SCRATCH,
    LABEL,
    AugmentationSection,
    DataOptions,
    FinetuneKeywords,
    FinetuneSection,
    NetworkName,
    TrunkKeywords,
    TrunkSection,
    pick_options,
)
from featcache.trunks import RANDOM

_OF_TRUNKS = ("image_size", "interpolate_positions", "transform", "decode")  # that a head's own trunk has already


@dataclass(frozen=True, slots=True)
class FinetuneProgress:
    """Where a fine-tuning stands."""

    stage: str  # "reading train", "epoch 3 of 10", "embedding test"
    done: int  # images
    total: int
    seconds: float  # since this kind of work began
    begun_with: int = 0  # images that were done when it began, in an earlier run


@dataclass(frozen=True, slots=True, eq=False)
class Finetuned:
    """The head of a fine-tuned network, where its trunk's weights are, and how it came to be."""

    fit: Fit  # as of fit-head, with one head
    weights: Path  # of the trunk
    start: str  # "weights", "scratch", or "head NAME"
    at_start: EpochRow | None  # the scores before the first step, where it started from a head
    learning_parameters: int
    parameters: int  # the head's included
    epochs: int  # that were trained
    resumed_from: int | None  # the epoch, from 0, in which this run went on; None where it began
    images_per_second: float  # of training steps in this run; 0.0 where there was none
    compute: str = "float32"  # the arithmetic of the embeddings that are kept, by which the head is scored
    was_finished: bool = False  # whether an earlier run had finished it, and this one trained nothing

    def to_json(self) -> dict[str, Any]:
        """Return the document of `featcache finetune --json`: fit-head's keys, and what was trained."""
        return {
            **self.fit.to_json(),
            "weights": str(self.weights),
            "start": self.start,
            "start_val": None if self.at_start is None else scores_to_json(self.at_start.val),
            "parameters": {"learning": self.learning_parameters, "all": self.parameters},
            "epochs": self.epochs,
            "resumed_from": self.resumed_from,
            "images_per_second": round(self.images_per_second, 1),
            "was_finished": self.was_finished,
        }


class FinetuneOptions(DataOptions, FinetuneKeywords, total=False):
    """What finetune takes: which data set and head, which network, and settings of the recipe's [finetune] section."""

    store: str | None  # of the head that it starts from, where several hold the data set
    arch: NetworkName | None
    weights: str | None
    layer: str | Sequence[str] | None  # one: that which the head reads
    image_size: int | None
    interpolate_positions: bool | None
    transform: str | None
    precision: str | None  # of the embeddings that are kept
    decode: str | None
    cnn: Mapping[str, Any] | None  # the settings of arch cnn, in place of the recipe's [trunk.cnn]
    select: str | None


@checked
def finetune(
    *,
    device: str = "auto",
    workers: int | None = None,
    checkpoint_minutes: float | None = None,
    restart: bool = False,
    head_name: str | None = None,
    augment: str | None = None,
    logger: str | None = None,
    log_folder: str | Path | None = None,
    progress: Callable[[FinetuneProgress], None] = lambda _: None,
    **options: Unpack[FinetuneOptions],
) -> Finetuned:
    """Train the network end to end on the train split, and keep it as a trunk and a linear head.

    Stopped at any moment, the same call goes on from its last checkpoint, and ends with the same weights. Where it is
    done, it trains nothing and returns what is kept.

    Args:
        device: Where it is trained: "auto", "cpu", "cuda", "cuda:N" or "mps"; "all", or several with commas between
            them, train together (DDP), each with its rows of every batch: "cuda:0,cuda:1", "cpu,cpu".
        workers: Processes that read and decode; None: as many as there are cores.
        checkpoint_minutes: Minutes between checkpoints within an epoch; None: one after each epoch.
        restart: Begin again where a training of the same settings is done, or has a checkpoint.
        head_name: A name for the head, which stands for it from now on; None leaves it without one.
        augment: What is done to the training images, in place of the recipe's [augmentation]: "none", or names with
            commas between them, each with or without a strength, as "flip,crop=0.3,mixup".
        logger: "csv", "tensorboard", "wandb" or "mlflow", which gets the scores of every epoch; None: none does.
        log_folder: Where its files go; None: `./logs`.
        progress: Called with where it stands.
        **options: Which data set; which trunk, or where several stores hold it the head's; and settings of the
            recipe's [finetune] section, `start` ("weights", "scratch" or "head NAME") among them, and `select`, the
            metric on val that patience goes by. What is None comes from the recipe.

    Returns:
        The head, saved in the store of the fine-tuned trunk, and how it came to be.

    Raises:
        UsageError: a setting or the recipe, no such logger, or a folder for its files without one.
        CacheError: no such head, other classes than the head's, or a damaged checkpoint.
        DataError: no images, more than 1 % of them unreadable, or a single class.
        MachineError: Lightning or the logger is not installed, weights out of reach, no such device, or memory or disk
            are full.
    """
    refuse_given_name(head_name)
    refuse_bad_minutes(checkpoint_minutes)
    require_lightning()
    chosen = choose_logger(logger, log_folder)
    job = prepare_job(options, augment)
    from featcache.finetuning.job import run_job  # torch and Lightning are imported where they are needed

    return run_job(
        job, device=device, workers=workers, checkpoint_minutes=checkpoint_minutes, restart=restart,
        head_name=head_name or "", progress=progress, logger=chosen,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class FinetuneJob:
    """What a call asks for, checked as far as that needs no image."""

    request: DatasetRequest
    options: DataOptions
    trunk: TrunkKeywords  # the settings of the trunk that were given
    network: TrunkSection  # the recipe's trunk, with these
    section: FinetuneSection
    augmentation: AugmentationSection
    select: str
    loss: str  # which says what is learnt of an image
    splits: SplitListings
    start: Start


def prepare_job(options: Mapping[str, Any], augment: str | None) -> FinetuneJob:
    """Return what is asked for; what is wrong with it is said before anything is read.

    Args:
        options: As `finetune` takes them.
        augment: What is done to the training images; None: what the recipe says.

    Raises:
        FeatcacheError: as `finetune`.
    """
    data = pick_options(options, DataOptions)
    trunk = pick_options(options, TrunkKeywords)
    named = {name: options.get(name) for name in ("store", "arch", "weights")}
    request = DatasetRequest(**data, **named)
    kind = request.recipe.data.target_kind
    section = finetune_section(request.recipe, pick_options(options, FinetuneKeywords))
    refuse_settings_of_classes(section, kind)
    augmentation = request.recipe.augmentation if augment is None else read_augmentation(augment)
    select = _select(request, options.get("select"), kind)
    recipe = request.recipe.override("trunk", **trunk, cnn=options.get("cnn"))
    splits = list_splits(request)
    if splits.val is None and (section.patience is not None or section.schedule == "plateau"):
        what = "patience" if section.patience is not None else "the schedule plateau"
        raise CacheError(f"{recipe.name}: {what} needs a val split, and the data set has none; leave it out")
    if section.start == FROM_SCRATCH and trunk.get("weights") not in (None, RANDOM):
        raise UsageError("--weights has no effect with --from scratch: the weights are random").correct(
            "--weights", None
        )
    start = find_start(request, section, recipe.trunk)
    if start.head is not None:
        _refuse_trunk_of_head(trunk, options)
        _refuse_other_classes(start, splits)
    return FinetuneJob(request, data, trunk, recipe.trunk, section, augmentation, select, loss_of(kind), splits, start)


def _select(request: DatasetRequest, typed: str | None, kind: str) -> str:
    """Return the metric on val that patience goes by: as typed, as the recipe has it, or the first of such targets."""
    head = request.recipe.override("head", select=typed).head
    if kind != LABEL:  # the recipe's loss is that of fit-head's heads
        head = head.model_copy(update={"loss": loss_of(kind)})
    return str(fit_to_targets(head, kind).select)


def _refuse_trunk_of_head(trunk: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Refuse settings of the trunk beside a head, which has one."""
    for name in _OF_TRUNKS:
        if trunk.get(name) is not None:
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"{flag} has no effect with --from {options['start']}: the head has its trunk").correct(
                flag, None
            )


def _refuse_other_classes(start: Start, splits: SplitListings) -> None:
    assert start.head is not None  # noqa: S101 (the caller has looked)
    known, classes = start.head.saved.classes, splits.train.classes
    if known == classes:
        return
    new = [name for name in classes if name not in known]
    gone = [name for name in known if name not in classes]
    differing = "; ".join(
        f"{words} {', '.join(names[:5])}" for words, names in (("new:", new), ("gone:", gone)) if names
    )
    raise CacheError(
        f"head {start.head.choice.handle} was trained on {len(known)} classes, and {splits.train.root} has "
        f"{len(classes)} ({differing}); run extract and fit-head again, and start from the new head"
    )


def refuse_bad_minutes(minutes: float | None) -> None:
    """Refuse minutes between checkpoints that are none.

    Args:
        minutes: As typed; None: not typed.

    Raises:
        UsageError: they are not above 0.
    """
    if minutes is not None and not 0 < minutes <= 1e6:
        raise UsageError(f"--checkpoint-minutes: found {minutes:g}, expected a number above 0")


def choose_logger(logger: str | None, folder: str | Path | None) -> LoggerChoice | None:
    """Return the logger that is meant; None where none is.

    Args:
        logger: Its name, as typed.
        folder: Where its files go.

    Raises:
        UsageError: no logger is called so, or there is a folder and no logger.
        MachineError: its package is not installed.
    """
    if logger is not None:
        return LoggerChoice(logger) if folder is None else LoggerChoice(logger, Path(expand_home(str(folder))))
    if folder is not None:
        raise UsageError("--log-folder has no effect without --logger: name one, as in --logger csv").correct(
            "--logger", "csv"
        )
    return None


def require_lightning() -> None:
    """Refuse to go on without Lightning.

    Raises:
        MachineError: it is not installed.
    """
    if importlib.util.find_spec("lightning") is None:
        raise MachineError("lightning is not installed: pip install 'featcache[finetune]'")
