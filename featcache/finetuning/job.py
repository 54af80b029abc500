"""One fine-tuning from the images to the head that is kept."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from featcache.dataset import DatasetRequest
from featcache.errors import CacheError, FeatcacheError
from featcache.extraction import Progress, extract
from featcache.extraction import Settings as ExtractSettings
from featcache.finetuning.augmentation import TrainingAugmentation
from featcache.finetuning.augmentation_text import describe_augmentation
from featcache.finetuning.checkpoints import Checkpoint
from featcache.finetuning.command import Finetuned, FinetuneJob, FinetuneProgress
from featcache.finetuning.images import SplitImages, load_images
from featcache.finetuning.interruption import Interruption
from featcache.finetuning.network import TrainableNetwork
from featcache.finetuning.running import run_training
from featcache.finetuning.schedule import Schedule
from featcache.finetuning.settings import head_config, recorded_settings, training_name
from featcache.finetuning.start import SAMPLE, require_same_network
from featcache.finetuning.training import FinetunePlan, Training
from featcache.finetuning.trunk_file import keep_trunk, name_tensors
from featcache.heads import EpochRow, Fit, HeadConfig, LinearHead, Splits, keep_heads, read_splits, score_split
from featcache.heads.training import class_weights
from featcache.recipe import FROM_WEIGHTS, TrunkKeywords
from featcache.store import digest_column
from featcache.trunks import PRECISION, choose_device


@dataclass(slots=True, eq=False)
class _Stages:
    """What is reported: the stage, and how long this kind of work has taken."""

    report: Callable[[FinetuneProgress], None]
    begun: dict[str, tuple[float, int]] = field(default_factory=dict)  # by kind: when, and how far it was

    def show(self, stage: str, done: int, total: int) -> None:
        """Report how far a stage is; epochs are one kind of work."""
        kind = "epoch" if stage.startswith("epoch") else stage
        begun, first = self.begun.setdefault(kind, (time.monotonic(), done))
        self.report(FinetuneProgress(stage, done, total, time.monotonic() - begun, first))

    def show_extract(self, now: Progress) -> None:
        """Report how far the embedding of a split is."""
        if now.split:
            self.show(f"embedding {now.split}", now.done, now.total)


def run_job(
    job: FinetuneJob, *, device: str, workers: int | None, checkpoint_minutes: float | None, restart: bool,
    head_name: str, progress: Callable[[FinetuneProgress], None],
) -> Finetuned:  # fmt: skip
    """Train, embed the data set with the trained trunk, and keep the head; see `finetune`."""
    begun, stages, on = time.monotonic(), _Stages(progress), choose_device(device)
    transform = job.start.source.transform
    images = [
        load_images(
            listing, transform, lambda split, *counts: stages.show(f"reading {split}", *counts), workers=workers
        )
        for listing in job.splits.every
    ]
    train, val = images[0], images[1] if len(images) > 1 else None
    loaded = job.start.load()
    names = name_tensors(loaded)
    training = _begin(job, loaded, train, val)
    checkpoint = Checkpoint(job.request.folder, _training_name(job, train, val))
    if restart:
        checkpoint.remove()
    resumed_from = _resume(training, checkpoint)
    interruption = Interruption()
    training.plan = replace(
        training.plan, checkpoint=checkpoint, is_stopping=interruption.is_requested, progress=stages.show,
        checkpoint_seconds=None if checkpoint_minutes is None else 60 * checkpoint_minutes,
    )  # fmt: skip
    before, training_begun = _images_done(training), time.monotonic()
    run_training(
        training, device=on, mixed=job.section.mixed, interruption=interruption, accumulate=job.section.accumulate
    )
    seconds, trained = time.monotonic() - training_begun, _images_done(training) - before
    best_epoch = training.keep()
    words = f"{job.request.recipe.name}-{job.section.start.partition(' ')[0]}"
    weights, sha256 = keep_trunk(loaded, names, job.request.folder, words)
    fit = _keep(job, training, best_epoch, weights, sha256, stages, workers, time.monotonic() - begun, head_name)
    checkpoint.remove()
    learning, every = training.network.count_learning()
    at_start = None if job.start.head is None else training.state.history[0]
    return Finetuned(
        fit=fit, weights=weights, start=_recorded(job)["start"],
        at_start=at_start, learning_parameters=learning, parameters=every, epochs=training.state.epoch,
        resumed_from=resumed_from, images_per_second=trained / seconds if trained else 0.0,
    )  # fmt: skip


def _begin(job: FinetuneJob, loaded: Any, train: SplitImages, val: SplitImages | None) -> Training:
    """Return the training at its beginning."""
    head, section = job.start.head, job.section
    config = head_config(section, "none" if head is None else head.head.config.normalize)
    network = TrainableNetwork(
        loaded, job.start.layer, job.start.source.layer_width(job.start.layer), len(train.listing.classes),
        train.transform, unfreeze=section.unfreeze, normalize=config.normalize,
    )  # fmt: skip
    at_start = None
    if head is not None:
        network.load_head(head.head.weight, head.head.bias)
        at_start = head.scores(job.request)
        sample = digest_column(list(train.digests[:SAMPLE]))
        pixels = next(train.batches([_first(len(sample))]))
        require_same_network(network, head.store, sample, pixels)
    counts = np.bincount(train.labels.numpy(), minlength=len(train.listing.classes))
    plan = FinetunePlan(
        config=config, schedule=Schedule(config, len(train), section.accumulate), train=train, val=val,
        select=job.select, layer_decay=section.layer_decay, ema=section.ema, augmentation=_augmentation(job, train),
        class_weights=() if section.class_weights == "none" else tuple(class_weights(config, counts).tolist()),
    )  # fmt: skip
    return Training(network, plan, at_start)


def _first(count: int) -> Any:
    import torch

    return torch.arange(count)


def _augmentation(job: FinetuneJob, train: SplitImages) -> TrainingAugmentation | None:
    """Return what is done to the training images; None where that is nothing."""
    if not job.augmentation.is_any:
        return None
    return TrainingAugmentation(job.augmentation, train.transform, job.section.seed)


def _resume(training: Training, checkpoint: Checkpoint) -> int | None:
    """Go on from the checkpoint, and return in which epoch, from 0; None where there is none."""
    found = checkpoint.load()
    if found is None:
        return None
    try:
        training.resume(*found)
    except (ValueError, KeyError) as error:
        raise CacheError(
            f"{checkpoint.folder}: this is no checkpoint of this training: {error}; remove the folder, and it begins "
            f"again"
        ) from None
    return training.state.epoch


def _training_name(job: FinetuneJob, train: SplitImages, val: SplitImages | None) -> str:
    """Return what stands for the training: the first weights, the settings, and the images with their classes."""
    splits = [
        [split.listing.classes, split.labels.tolist(), [digest.hex() for digest in split.digests]]
        for split in (train, val)
        if split is not None
    ]
    settings = job.section.model_dump(exclude={"start"})
    return training_name(
        {
            "start": job.start.identity,
            "layer": job.start.layer,
            "settings": settings,
            "augment": describe_augmentation(job.augmentation),
            "select": job.select,
            "splits": splits,
        }
    )


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


def _keep(
    job: FinetuneJob, training: Training, best_epoch: int | None, weights: Path, sha256: str, stages: _Stages,
    workers: int | None, seconds: float, head_name: str,
) -> Fit:  # fmt: skip
    """Embed every split with the trained trunk, and keep the head in the store of these embeddings."""
    section, takes = job.start.source.section, TrunkKeywords.__annotations__
    stated = {name: getattr(section, name) for name in section.model_fields_set if name in takes}
    trunk: dict[str, Any] = {
        **stated, "arch": section.arch, "weights": str(weights), "layer": [job.start.layer], "views": 0,
        "precision": _precision(job),
    }  # fmt: skip
    trunk.pop("augment", None)  # it says what a view is
    summaries = extract(settings=ExtractSettings(workers=workers), progress=stages.show_extract, **job.options, **trunk)
    request = DatasetRequest(**job.options, store=summaries[0].store)
    splits = read_splits(request)
    spec = splits.source.trunk.spec
    if (spec.weights_sha256, spec.transform) != (sha256, training.plan.train.transform):
        raise FeatcacheError(f"{weights}: the trunk that was trained is not the one that is loaded; please report this")
    head = _scored_head(job, training, best_epoch, splits)
    return keep_heads(
        splits, [head], job.select, is_choice=False, check_seconds=None, train_seconds=seconds, device="cpu",
        notes=job.splits.notes, given_name=head_name,
    )  # fmt: skip


def _precision(job: FinetuneJob) -> str | None:
    """Return the arithmetic of the embeddings that are kept: as typed, else as of the head that the start is from."""
    head = job.start.head
    own = None if head is None else next(w for w, c in PRECISION.items() if c == head.store.trunk.spec.compute)
    return job.trunk.get("precision") or own


def _scored_head(job: FinetuneJob, training: Training, best_epoch: int | None, splits: Splits) -> LinearHead:
    """Return the head with its scores on the embeddings that are kept: those that it has wherever it is loaded."""
    config: HeadConfig = training.plan.config
    bare = training.network.linear_head(config, training.state.step)
    on_train = score_split(bare.logits, splits.in_memory)
    on_val = None if splits.val is None else score_split(bare.logits, splits.val)
    kept = training.state.epoch if best_epoch is None else best_epoch
    history = tuple(
        EpochRow(row.epoch, row.train, on_val if row.epoch == kept else row.val) for row in training.state.history
    )
    return replace(
        bare, history=history, train=on_train, val=on_val, best_epoch=best_epoch,
        finetuned=_recorded(job),
    )  # fmt: skip
