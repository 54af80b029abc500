"""Train linear heads side by side: one read of a batch, one matrix product, every head its own settings.

What a step computes is in `stack`; which rows it sees in `draws`; what an epoch's score does in `courses`.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from featcache.errors import UsageError
from featcache.features import Features
from featcache.heads.config import HeadConfig
from featcache.heads.courses import Course
from featcache.heads.linear import EpochRow, LinearHead, Scores, scores
from featcache.heads.replay import MOST_STEPS, Replay
from featcache.heads.stack import Heads, Moments, Stack
from featcache.heads.supply import Supply, Walk, room_for_readers, supply
from featcache.streamed import Streamed

WORTH_LOOPS = 10**11  # multiplications of a training, some 1.5 s of two cores: numba takes a second to get ready
LEAST_STD = 1e-12  # of a dimension's size: below it a dimension counts as constant

# Told the epoch and every head's scores on val so far; the heads that it names (by index) are stopped.
Watch = Callable[[int, Sequence[Scores | None]], Collection[int]]


def train_heads(
    train: Features | Streamed,
    val: Features | None,
    configs: Sequence[HeadConfig],
    *,
    select: str = "macro_recall",
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
    watch: Watch | None = None,
) -> list[LinearHead]:
    """Train one head per config; each equals itself trained alone.

    Args:
        train: the rows to learn from; held in memory, on the device where there is one, or read from disk.
        val: scored after every epoch; it decides what patience and a plateau ask for, and changes no other weight.
        configs: heads that agree in batch_size, epochs, seed and sampler see the same batches and are trained in one
            pass; the others in passes of their own.
        select: the metric that patience goes by: macro_recall, accuracy or loss.
        device: where torch computes.
        progress: called after every epoch with (epochs done, epochs), over all passes.
        watch: called after every epoch of a single pass; it may stop heads, which then keep what they have.

    Returns:
        The heads, in the order of `configs`. One that diverged is among them, with a loss of nan.

    Raises:
        UsageError: no heads, a split without rows, a val that does not fit, patience without val, or a watch over
            several passes.
    """
    _check(train, val, configs)
    passes: dict[tuple[object, ...], list[int]] = {}
    for index, config in enumerate(configs):
        passes.setdefault(config.batches, []).append(index)
    if watch is not None and len(passes) > 1:
        raise UsageError(f"heads that are watched see the same batches; these need {len(passes)} passes.")
    done, total = 0, sum(configs[which[0]].epochs for which in passes.values())

    def told() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    heads: dict[int, LinearHead] = {}
    with torch.inference_mode(), room_for_readers(train):
        data = supply(train, device)
        on_val = None if val is None else supply(val, device)
        moments = moments_of(train, configs)
        for which in passes.values():
            several = [configs[index] for index in which]
            trained = _one_pass(data, on_val, several, moments, select, told, watch)
            heads.update(zip(which, trained if val is None else [_scored(head, val) for head in trained], strict=True))
    return [heads[index] for index in range(len(configs))]


def _one_pass(
    train: Supply, val: Supply | None, configs: Sequence[HeadConfig], moments: Moments, select: str,
    told: Callable[[], None], watch: Watch | None,
) -> list[LinearHead]:  # fmt: skip
    """Heads that see the same batches."""
    first = configs[0]
    rows = len(train.y)
    stack = stack_for(train, configs, len(moments.counts))(
        configs, moments, rows, first.steps(rows), str(train.y.device)
    )
    with stack:
        return _trained(stack, train, val, configs, select, told, watch)


def _trained(
    stack: Heads, train: Supply, val: Supply | None, configs: Sequence[HeadConfig], select: str,
    told: Callable[[], None], watch: Watch | None,
) -> list[LinearHead]:  # fmt: skip
    first, rows = configs[0], len(train.y)
    courses = [Course(config, select) for config in configs]
    needs_val = watch is not None or any(c.patience or c.schedule == "plateau" for c in configs)
    history: list[list[EpochRow]] = [[] for _ in configs]
    kept: dict[int, Tensor] = {}  # the best epoch's weights of heads with patience

    def learn(walk: Walk) -> list[Tensor]:
        """One epoch, and the labels in the order that was drawn."""
        return stack.learn(walk())

    few = first.steps(rows) <= MOST_STEPS * first.epochs
    learn_or_replay = Replay(learn, train.recorder if few else None)
    for epoch, walk in enumerate(train.epochs(first), start=1):
        stack.begin(epoch - 1, [course.pace for course in courses])
        labels = learn_or_replay(walk)
        level = min(first.batch_size, rows) if epoch == 1 else 0
        before = stack.learnt(torch.cat(labels), level)
        last = epoch == first.epochs and not needs_val  # else this pass is the final score
        after = [None] * len(configs) if val is None or last else stack.score(val.blocks(), len(val.y))
        for head, course in enumerate(courses):
            if not course.stopped:
                history[head].append(EpochRow(epoch, before[head], after[head]))
                if course.after(epoch, before[head], after[head]):
                    kept[head] = stack.w[stack.place(head)].clone()
        if watch is not None:
            for head in watch(epoch, after):
                courses[head].stop()
        told()
        if all(course.stopped for course in courses):
            break
    for head, weights in kept.items():
        stack.w[stack.place(head)] = weights
    on_train = stack.score(train.blocks(), rows)
    weight, bias = stack.answers()
    steps = first.steps(rows) // first.epochs
    return [
        LinearHead(
            config, weight[head], bias[head], steps * len(history[head]), tuple(history[head]), on_train[head], None,
            best_epoch=courses[head].best_epoch,
        )
        for head, config in enumerate(configs)
    ]  # fmt: skip


def _scored(head: LinearHead, val: Features) -> LinearHead:
    """The head with its val score: in NumPy, as a loaded head will be scored, so that both give the same numbers."""
    on_val = scores(head.logits, val)
    last = head.history[-1]
    ended = last if last.val is not None else replace(last, val=on_val)
    return replace(head, val=on_val, history=(*head.history[:-1], ended))


def moments_of(train: Features | Streamed, configs: Sequence[HeadConfig]) -> Moments:
    """Rows of each class, and mean and deviation of each dimension where a head standardises."""
    counts = np.bincount(train.y, minlength=len(train.classes))
    dim = width_of(train)
    if not any(config.standardize for config in configs):
        blank = np.zeros(dim, np.float32)
        return Moments(counts, blank, blank + 1)
    mean, square = np.zeros(dim), np.zeros(dim)
    for x in _blocks(train):
        mean += x.sum(axis=0, dtype=np.float64)
    mean /= len(train.y)
    for x in _blocks(train):
        square += np.square(x - mean).sum(axis=0)
    std = np.sqrt(square / len(train.y))
    std[std <= LEAST_STD * np.abs(mean)] = 1
    return Moments(counts, mean.astype(np.float32), std.astype(np.float32))


def _blocks(train: Features | Streamed) -> Iterator[npt.NDArray[np.float32]]:
    windows = (x for x, _ in train.blocks()) if isinstance(train, Streamed) else iter([train.x])
    for x in windows:
        for start in range(0, len(x), 16_384):
            yield x[start : start + 16_384]


def width_of(train: Features | Streamed) -> int:
    """The width of an embedding."""
    return train.dim if isinstance(train, Streamed) else train.x.shape[1]


def stack_for(train: Supply, configs: Sequence[HeadConfig], classes: int) -> type[Heads]:
    """What computes the steps: on a CPU, where there is work for seconds, loops of our own; else torch's operations."""
    products = 2 * len(train.y) * configs[0].epochs * train.dim * classes * len(configs)
    if train.y.device.type != "cpu" or products < WORTH_LOOPS:
        return Stack
    from featcache.heads.fused import FusedStack

    return FusedStack


def _check(train: Features | Streamed, val: Features | None, configs: Sequence[HeadConfig]) -> None:
    if not configs:
        raise UsageError("no heads to train: expected at least one learning rate.")
    if not len(train.y):
        raise UsageError("the training split has 0 rows, expected at least one.")
    if val is None:
        if any(config.patience for config in configs):
            raise UsageError("patience waits for a better score on val, and there is no val split; leave it out.")
        return
    if not len(val.y):
        raise UsageError("the val split has 0 rows, expected at least one; train without it.")
    if val.classes != train.classes:
        raise UsageError(f"val has {len(val.classes)} classes, train {len(train.classes)}: expected the same list.")
    if val.x.shape[1] != width_of(train):
        raise UsageError(
            f"val has embeddings of {val.x.shape[1]}, train of {width_of(train)}: expected the same trunk."
        )
