"""One fine-tuning from the images to the head that is kept."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from featcache.dataset import DatasetRequest
from featcache.errors import CacheError, FeatcacheError
from featcache.extraction import Placement, Progress, extract
from featcache.extraction import Settings as ExtractSettings
from featcache.features import Features
from featcache.finetuning.augmentation_text import describe_augmentation
from featcache.finetuning.checkpoints import Checkpoint
from featcache.finetuning.command import Finetuned, FinetuneJob, FinetuneProgress
from featcache.finetuning.finished import FinishedTraining, find_finished, forget_finished, write_finished
from featcache.finetuning.identity import identify_remembered, identify_training
from featcache.finetuning.images import SplitImages, load_images
from featcache.finetuning.loggers import LoggerChoice
from featcache.finetuning.prepared import PreparedTraining, prepare_training
from featcache.finetuning.settings import recorded_settings, training_name
from featcache.finetuning.several_devices import choose_training_devices
from featcache.finetuning.state import TrainingState
from featcache.finetuning.training import Training
from featcache.finetuning.trunk_file import keep_trunk
from featcache.heads import (
    EpochRow,
    HeadConfig,
    LinearHead,
    Scores,
    Splits,
    keep_heads,
    read_splits,
    score_targets,
    show_kept_head,
)
from featcache.heads.saved import SavedHead, load_model
from featcache.recipe import CNN, FROM_WEIGHTS, TrunkKeywords
from featcache.trunks import PRECISION


@dataclass(slots=True, eq=False)
class Stages:
    """What is reported: the stage, and how long this kind of work has taken."""

    report: Callable[[FinetuneProgress], None]
    since: float = field(default_factory=time.monotonic)  # when all of it began
    begun: dict[str, tuple[float, int]] = field(default_factory=dict)  # by kind: when, and how far it was

    def show(self, stage: str, done: int, total: int) -> None:
        """Report how far a stage is; epochs are one kind of work."""
        kind = "epoch" if "epoch " in stage else stage
        begun, first = self.begun.setdefault(kind, (time.monotonic(), done))
        self.report(FinetuneProgress(stage, done, total, time.monotonic() - begun, first))

    def show_extract(self, now: Progress) -> None:
        """Report how far the embedding of a split is."""
        if now.split:
            self.show(f"embedding {now.split}", now.done, now.total)


def run_job(
    job: FinetuneJob, *, device: str, workers: int | None, checkpoint_minutes: float | None, restart: bool,
    head_name: str, progress: Callable[[FinetuneProgress], None], images: Sequence[SplitImages] | None = None,
    logger: LoggerChoice | None = None,
) -> Finetuned:  # fmt: skip
    """Train, embed the data set with the trained trunk, and keep the head; see `finetune`.

    Args:
        job: What is asked for.
        device: As for `finetune`, as the rest.
        workers: Likewise.
        checkpoint_minutes: Likewise.
        restart: Likewise.
        head_name: Likewise; "" leaves the head without a name.
        progress: Likewise.
        images: Train and, where there is one, val, where they are decoded already.
        logger: Where the scores of every epoch go, too.
    """
    stages, devices = Stages(progress), choose_training_devices(device)
    finished = None if restart else _find_finished(job, images)
    if finished and (shown := _show_finished(job, finished, stages, workers, head_name)):
        return shown
    prepared = prepare_training(job, images or read_splits_of(job, stages, workers), restart=restart)
    if restart:
        forget_finished(job.request.folder, prepared.name)
    elif (finished := find_finished(job.request, prepared.name)) and (  # of the same images, moved or touched
        shown := _show_finished(job, finished, stages, workers, head_name)
    ):
        return shown
    return _train(
        job, prepared, stages, devices=devices, workers=workers, checkpoint_minutes=checkpoint_minutes, logger=logger,
        head_name=head_name,
    )  # fmt: skip


def _find_finished(job: FinetuneJob, images: Sequence[SplitImages] | None) -> FinishedTraining | None:
    """Return the training that is asked for where it is done; without images, by what the cache remembers of them."""
    identity = identify_remembered(job) if images is None else identify_training(job, images)
    return None if identity is None else find_finished(job.request, training_name(identity))


def _train(
    job: FinetuneJob, prepared: PreparedTraining, stages: Stages, *, devices: Sequence[Placement], workers: int | None,
    checkpoint_minutes: float | None, logger: LoggerChoice | None, head_name: str,
) -> Finetuned:  # fmt: skip
    """Train to the end, and keep what came of it."""
    training, begun = prepared.training, time.monotonic()
    before = _images_done(training)
    prepared.run(devices=devices, checkpoint_minutes=checkpoint_minutes, progress=stages.show, logger=logger)
    seconds, trained = time.monotonic() - begun, _images_done(training) - before
    best_epoch = training.keep()
    words = f"{job.request.recipe.name}-{job.section.start.partition(' ')[0]}"
    weights, sha256 = keep_trunk(prepared.network, prepared.names, job.request.folder, words)
    splits = _embed(job, weights, stages, workers)
    spec = splits.source.trunk.spec
    if (spec.weights_sha256, spec.transform) != (sha256, training.plan.train.transform):
        raise FeatcacheError(f"{weights}: the trunk that was trained is not the one that is loaded; please report this")
    fit = keep_heads(
        splits, [_scored_head(job, training, best_epoch, splits)], job.select, is_choice=False, check_seconds=None,
        train_seconds=time.monotonic() - stages.since, device="cpu", notes=job.splits.notes, given_name=head_name,
    )  # fmt: skip
    learning, every = training.network.count_learning()
    write_finished(
        job.request.folder, prepared.name, training.state, weights=weights.name, store=splits.source.name,
        head=fit.heads[0].name, learning=learning, parameters=every, seconds=round(fit.seconds, 3),
    )  # fmt: skip
    prepared.checkpoint.remove()
    return Finetuned(
        fit=fit, weights=weights, start=_recorded(job)["start"], compute=spec.compute,
        at_start=_at_start(job, training.state), learning_parameters=learning, parameters=every,
        epochs=training.state.epoch, resumed_from=prepared.resumed_from,
        images_per_second=trained / seconds if trained else 0.0,
    )  # fmt: skip


def _show_finished(
    job: FinetuneJob, finished: FinishedTraining, stages: Stages, workers: int | None, head_name: str
) -> Finetuned | None:
    """Return what a training gave that was done before; an image that only test has got since is embedded.

    None where embeddings of another precision are asked for: they have no head.
    """
    splits, document = _embed(job, finished.weights, stages, workers), finished.document
    if splits.source.name != document.store:
        return None
    Checkpoint(job.request.folder, finished.name).remove()  # of a run that was killed when it had kept its result
    saved = load_model(finished.head, finished.store)
    if not isinstance(saved, SavedHead) or not isinstance(saved.head, LinearHead):
        raise CacheError(f"{finished.head}: this is not the head of a fine-tuning; --restart trains it again")
    saved = replace(saved, head=replace(saved.head, history=tuple(finished.state.history)))
    fit = show_kept_head(
        splits, saved, job.select, seconds=document.seconds, notes=job.splits.notes, given_name=head_name
    )
    return Finetuned(
        fit=fit, weights=finished.weights, start=_recorded(job)["start"], compute=splits.source.trunk.spec.compute,
        at_start=_at_start(job, finished.state), learning_parameters=document.learning, parameters=document.parameters,
        epochs=finished.state.epoch, resumed_from=None, images_per_second=0.0, was_finished=True,
    )  # fmt: skip


def _at_start(job: FinetuneJob, state: TrainingState) -> EpochRow | None:
    """Return the scores before the first step, where a training starts from a head."""
    return None if job.start.head is None else state.history[0]


def read_splits_of(job: FinetuneJob, stages: Stages, workers: int | None) -> list[SplitImages]:
    """Return train and, where there is one, val, decoded.

    Args:
        job: What is asked for.
        stages: Is shown how far the reading is.
        workers: Processes that read and decode; None: as many as there are cores.
    """

    def show(split: str, done: int, total: int) -> None:
        stages.show(f"reading {split}", done, total)

    transform = job.start.source.transform
    return [load_images(listing, transform, show, workers=workers) for listing in job.splits.every]


def _images_done(training: Training) -> int:
    schedule, state = training.plan.schedule, training.state
    return state.epoch * schedule.rows + min(state.batch * training.plan.config.batch_size, schedule.rows)


def _recorded(job: FinetuneJob) -> dict[str, Any]:
    """Return what is written down of the training beside the settings of its head."""
    head, is_named = job.start.head, job.section.start == FROM_WEIGHTS
    return recorded_settings(
        job.section, head="" if head is None else head.saved.name,
        weights=job.start.source.argument if is_named else "",
        augment=describe_augmentation(job.augmentation) if job.augmentation.is_any else "",
    )  # fmt: skip


def _embed(job: FinetuneJob, weights: Path, stages: Stages, workers: int | None) -> Splits:
    """Embed every split with a trained trunk, as far as its store lacks it, and return what a head is trained on."""
    section, takes = job.start.source.section, TrunkKeywords.__annotations__
    stated = {name: getattr(section, name) for name in section.model_fields_set if name in takes}
    trunk: dict[str, Any] = {
        **stated, "arch": section.arch, "weights": str(weights), "layer": [job.start.layer], "views": 0,
        "precision": _precision(job), "cnn": section.cnn.model_dump() if section.arch == CNN else None,
    }  # fmt: skip
    trunk.pop("augment", None)  # it says what a view is
    summaries = extract(settings=ExtractSettings(workers=workers), progress=stages.show_extract, **job.options, **trunk)
    return read_splits(DatasetRequest(**job.options, store=summaries[0].store), any_targets=True)


def _precision(job: FinetuneJob) -> str | None:
    """Return the arithmetic of the embeddings that are kept: as typed, else as of the head that the start is from."""
    head = job.start.head
    own = None if head is None else next(w for w, c in PRECISION.items() if c == head.store.trunk.spec.compute)
    return job.trunk.get("precision") or own


def _scored_head(job: FinetuneJob, training: Training, best_epoch: int | None, splits: Splits) -> LinearHead:
    """Return the head with its scores on the embeddings that are kept: those that it has wherever it is loaded."""
    config: HeadConfig = training.plan.config
    bare = training.objective.finished(training.network.linear_head(config, training.state.step))
    on_val = None
    if splits.val is not None:
        bare, on_val = training.objective.score(bare, [rows_with_truth(splits.val)])
    return replace(
        bare, history=tuple(training.state.history), train=_score_train(training, bare, splits), val=on_val,
        best_epoch=best_epoch, finetuned=_recorded(job),
    )  # fmt: skip


def _score_train(training: Training, head: LinearHead, splits: Splits) -> Scores:
    """Return the scores on train; of labels with the thresholds that val chose, where there is val."""
    train = splits.in_memory
    if train.targets is None or splits.val is None:
        return training.objective.score(head, [rows_with_truth(train)])[1]
    return score_targets(head.config, head.targets, head.logits, train)


def rows_with_truth(features: Features) -> tuple[npt.NDArray[np.float32], npt.NDArray[Any]]:
    """Return the embeddings of a split, and what is true of its rows.

    Args:
        features: The split.
    """
    return features.x, features.y if features.targets is None else features.targets.values
