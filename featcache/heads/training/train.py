"""Train heads side by side: one read of a batch, of linear heads one matrix product, every head its own settings.

What a step computes is in `stack`; which rows it sees in `samplers`; what an epoch's score does in `stopping`.
"""

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import Tensor

from featcache.errors import UsageError
from featcache.features import Features, Streamed, drop_views
from featcache.heads import EpochRow, HeadConfig, Scores
from featcache.heads.modules import TrainedHead
from featcache.heads.training.batches import EpochIterator, RowSource, make_row_source, spare_core_for_readers
from featcache.heads.training.cuda_graph import MAX_RECORDED_STEPS, EpochReplay
from featcache.heads.training.final_scores import with_final_scores
from featcache.heads.training.matmul_precision import refuse_bfloat16
from featcache.heads.training.normalization import normalize_rows
from featcache.heads.training.stack import HeadStack, TrainingPlan
from featcache.heads.training.standardization import FeatureStatistics, compute_statistics, embedding_dim
from featcache.heads.training.stopping import HeadProgress
from featcache.heads.training.torch_stack import TorchStack
from featcache.recipe import LABEL

_RowsKey = tuple[str, bool]  # of a head: how its rows are scaled, and whether they are views

# Gets the epoch and every head's scores on val so far, and returns the heads (by index) that are to stop.
EpochCallback = Callable[[int, Sequence[Scores | None]], Collection[int]]
# Yields every head's scores on val after each epoch, is sent the heads that are to stop, and returns all heads.
TrainingPass = Generator[list[Scores | None], Collection[int], list[TrainedHead]]


def train_heads(
    train: Features | Streamed,
    val: Features | None,
    configs: Sequence[HeadConfig],
    *,
    select: str = "macro_recall",
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
    watch: EpochCallback | None = None,
    on_compile: Callable[[], None] = lambda: None,
) -> list[TrainedHead]:
    """Train one head per config; each equals itself trained alone.

    On the CPU to the bit, a linear head on any number of threads. Elsewhere to the rounding of torch's products, which
    the number of heads decides and a training magnifies: 1e-7 to 2e-5 of the weights' norm at learning rates up to
    0.03; at 0.3 there is no bound.

    Args:
        train: the rows to learn from; held in memory, on the device where there is one, or read from disk. A head whose
            config has `views` draws one of the views of each image, the others learn from the plain images.
        val: scored after every epoch; it decides what patience and a plateau ask for, and changes no other weight.
        configs: heads that agree in head, batch_size, epochs, seed, sampler, standardize, normalize, views and
            matmul_precision are trained in one pass, on the same batches; the others in passes of their own.
        select: the metric that patience goes by: macro_recall, accuracy or loss.
        device: where torch computes.
        progress: called after every epoch with (epochs done, epochs), over all passes.
        watch: called after every epoch of all heads; it may stop some, which then keep what they have.
        on_compile: called where the loops of the CPU have to be compiled first, which takes some ten seconds.

    Returns:
        The heads, in the order of `configs`. One that diverged is among them, with a loss of nan. `train` and `val` of
        each are what its weights answer, by argmax (the first of equals), in NumPy, as a loaded head is scored; so is
        the last row of its history, or that of its best epoch where patience kept it. What the other rows have is in
        `EpochRow`.

    Raises:
        UsageError: no heads, a split without rows, a val that does not fit, patience without val, or a watch over
            heads of different epochs; or products in bfloat16 elsewhere than on the CPU.
        MachineError: products in bfloat16, and a CPU without instructions for them.
    """
    _refuse_misfits(train, val, configs)
    refuse_bfloat16(configs, device)
    passes: dict[tuple[object, ...], list[int]] = {}
    for index, config in enumerate(configs):
        passes.setdefault(config.batch_key, []).append(index)
    if watch is not None and len({config.epochs for config in configs}) > 1:
        raise UsageError("heads that are watched need the same number of epochs.")
    epochs_done, epochs = 0, sum(configs[indices[0]].epochs for indices in passes.values())

    def end_epoch() -> None:
        nonlocal epochs_done
        epochs_done += 1
        if progress is not None:
            progress(epochs_done, epochs)

    heads: dict[int, TrainedHead] = {}
    with torch.inference_mode(), spare_core_for_readers(train):
        trainings: dict[_RowsKey, _Training] = {}
        for key in dict.fromkeys(map(_rows_key, configs)):
            normalize, with_views = key
            rows = normalize_rows(train if with_views or isinstance(train, Streamed) else drop_views(train), normalize)
            trainings[key] = _Training(
                train=make_row_source(rows, device),
                val=None if val is None else make_row_source(normalize_rows(val, normalize), device),
                statistics=compute_statistics(rows, [config for config in configs if _rows_key(config) == key]),
                select=select,
                end_epoch=end_epoch,
                scores_every_epoch=watch is not None,
                on_compile=on_compile,
            )
        side_by_side = [list(passes.values())] if watch is not None else [[indices] for indices in passes.values()]
        for group in side_by_side:
            heads |= _train_group(trainings, configs, group, watch)
        return [with_final_scores(heads[index], train, val) for index in range(len(configs))]


def _rows_key(config: HeadConfig) -> _RowsKey:
    return config.normalize, config.views


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Training:
    """What all passes of a training share whose heads learn from the same rows."""

    train: RowSource
    val: RowSource | None
    statistics: FeatureStatistics
    select: str
    end_epoch: Callable[[], None]  # called after every epoch of every pass
    scores_every_epoch: bool  # whether somebody looks at the scores on val after each epoch
    on_compile: Callable[[], None]


def _train_group(
    trainings: Mapping[_RowsKey, _Training], configs: Sequence[HeadConfig], group: Sequence[Sequence[int]],
    watch: EpochCallback | None,
) -> dict[int, TrainedHead]:  # fmt: skip
    """Train a group of passes side by side, given by the indices of their heads; return the heads by index.

    Args:
        trainings: by what says which rows the heads learn from.
        configs: of all heads.
        group: the heads of each pass, by their indices.
        watch: as in `train_heads`.
    """
    with ExitStack() as exits:
        passes = [
            exits.enter_context(
                closing(_train_pass(trainings[_rows_key(configs[indices[0]])], [configs[index] for index in indices]))
            )
            for indices in group
        ]
        trained = _run_passes(passes, group, watch)
    return {
        index: head
        for indices, heads in zip(group, trained, strict=True)
        for index, head in zip(indices, heads, strict=True)
    }


def _run_passes(
    passes: Sequence[TrainingPass], indices: Sequence[Sequence[int]], watch: EpochCallback | None
) -> list[list[TrainedHead]]:
    """Take passes through their epochs side by side, and return the heads of each.

    Args:
        passes: not begun yet.
        indices: of the heads of each pass, as the watch knows them.
        watch: as in `train_heads`.
    """
    on_val: dict[int, Scores | None] = {}
    to_stop: Collection[int] = ()
    ended: dict[int, list[TrainedHead]] = {}
    for epoch in count():
        for number, (training_pass, own) in enumerate(zip(passes, indices, strict=True)):
            if number in ended:
                continue
            try:
                own_to_stop = [head for head, index in enumerate(own) if index in to_stop]
                scores = training_pass.send(own_to_stop) if epoch else next(training_pass)
            except StopIteration as end:
                ended[number] = end.value
            else:
                on_val.update(zip(own, scores, strict=True))
        if len(ended) == len(passes):
            break
        if watch is not None:
            to_stop = watch(epoch + 1, [on_val[index] for index in sorted(on_val)])
    return [ended[number] for number in range(len(passes))]


def _train_pass(training: _Training, configs: Sequence[HeadConfig]) -> TrainingPass:
    """Train heads that see the same batches."""
    rows = training.train.y
    plan = TrainingPlan(
        configs=configs, statistics=training.statistics, rows=len(rows), device=str(rows.device),
        on_compile=training.on_compile,
    )  # fmt: skip
    with choose_stack(plan.device, is_linear=configs[0].is_linear, targets=configs[0].targets)(plan) as stack:
        return (yield from _train_epochs(stack, training, configs))


def _train_epochs(stack: HeadStack, training: _Training, configs: Sequence[HeadConfig]) -> TrainingPass:
    """Train the heads of a stack, epoch by epoch, until the last one or until all have stopped."""
    train, val, first = training.train, training.val, configs[0]
    heads = [HeadProgress(config, training.select) for config in configs]
    needs_val = training.scores_every_epoch or any(c.patience or c.schedule == "plateau" for c in configs)
    history: list[list[EpochRow]] = [[] for _ in configs]
    best_weights: dict[int, Any] = {}  # of the best epoch of heads with patience

    def train_epoch(epoch_chunks: EpochIterator) -> list[Tensor]:
        """Train one epoch, and return the labels in the order that was drawn."""
        return stack.train_epoch(epoch_chunks())

    steps = first.steps(len(train.y)) // first.epochs  # of an epoch
    is_recorded = stack.can_be_recorded and steps <= MAX_RECORDED_STEPS
    train_or_replay = EpochReplay(train_epoch, train.recorder if is_recorded else None)
    for epoch, epoch_chunks in enumerate(train.epochs(first), start=1):
        stack.begin_epoch(epoch - 1, [head.lr_factor for head in heads])
        labels = train_or_replay(epoch_chunks)
        on_train = stack.train_scores(torch.cat(labels))
        last = epoch == first.epochs and not needs_val  # else this pass is the final score
        on_val: list[Scores | None] = [None] * len(configs)
        if val is not None and not last:
            on_val[:] = stack.score(val.blocks(), len(val.y))
        for index, head in enumerate(heads):
            if not head.stopped:
                history[index].append(EpochRow(epoch, on_train[index], on_val[index]))
                if head.record_epoch(epoch, on_train[index], on_val[index]):
                    best_weights[index] = stack.copy_weights(index)
        for index in (yield on_val) or ():
            heads[index].stop()
        training.end_epoch()
        if all(head.stopped for head in heads):
            break
    for index, weights in best_weights.items():
        stack.restore_weights(index, weights)
    return stack.trained_heads(history, [head.best_epoch for head in heads])


def choose_stack(device: str, *, is_linear: bool = True, targets: str = LABEL) -> type[HeadStack]:
    """Return what computes the steps: of linear heads compiled loops on the CPU, torch's operations elsewhere.

    The amount of work must not decide it: that depends on the number of heads, and the two round differently.
    """
    if targets != LABEL:
        from featcache.heads.training.target_stack import TargetStack

        return TargetStack
    if not is_linear:
        from featcache.heads.training.module_stack import ModuleStack

        return ModuleStack
    if device != "cpu":
        return TorchStack
    from featcache.heads.training.numba_stack import NumbaStack

    return NumbaStack


def _refuse_misfits(train: Features | Streamed, val: Features | None, configs: Sequence[HeadConfig]) -> None:
    """Refuse heads and splits that cannot be trained together.

    Raises:
        UsageError: as in `train_heads`.
    """
    if not configs:
        raise UsageError("no heads to train: expected at least one learning rate.")
    if not len(train.y):
        raise UsageError("the training split has 0 rows, expected at least one.")
    if any(config.views for config in configs) and (isinstance(train, Streamed) or train.views is None):
        raise UsageError("a head is to be trained on views, and the training split has none.")
    if val is None:
        if any(config.patience for config in configs):
            raise UsageError("patience waits for a better score on val, and there is no val split; leave it out.")
        return
    if not len(val.y):
        raise UsageError("the val split has 0 rows, expected at least one; train without it.")
    if val.classes != train.classes:
        raise UsageError(f"val has {len(val.classes)} classes, train {len(train.classes)}: expected the same list.")
    if val.x.shape[1] != embedding_dim(train):
        raise UsageError(
            f"val has embeddings of {val.x.shape[1]}, train of {embedding_dim(train)}: expected the same trunk."
        )
