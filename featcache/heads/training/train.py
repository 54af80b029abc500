"""Train linear heads side by side: one read of a batch, one matrix product, every head its own settings.

What a step computes is in `stack`; which rows it sees in `draws`; what an epoch's score does in `courses`.
"""

import math
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from itertools import count

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from featcache.errors import UsageError
from featcache.features import Features, Streamed
from featcache.heads import EpochRow, HeadConfig, LinearHead, Scores, scores, scores_on
from featcache.heads.training.batches import Supply, Walk, room_for_readers, supply
from featcache.heads.training.cuda_graph import MOST_STEPS, Replay
from featcache.heads.training.stopping import Course
from featcache.heads.training.torch_stack import Heads, Moments, Stack

WORTH_LOOPS = 10**11  # multiplications of a training, some 1.5 s of two cores: numba takes a second to get ready
UNSCORED = Scores(math.nan, math.nan, math.nan)
DOUBLE_EPS = float(np.finfo(np.float64).eps)
LEAST_STD = 1e-35  # of a dimension that is divided by it: the weights on rows as they are must be float32s

# Told the epoch and every head's scores on val so far; the heads that it names (by index) are stopped.
Watch = Callable[[int, Sequence[Scores | None]], Collection[int]]
# One pass: yields every head's scores on val after each epoch, takes the heads that are stopped, and returns them all.
Pass = Generator[list[Scores | None], Collection[int], list[LinearHead]]


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
        configs: heads that agree in batch_size, epochs, seed, sampler and standardize see the same batches and are
            trained in one pass; the others in passes of their own.
        select: the metric that patience goes by: macro_recall, accuracy or loss.
        device: where torch computes.
        progress: called after every epoch with (epochs done, epochs), over all passes.
        watch: called after every epoch of all heads; it may stop some, which then keep what they have.

    Returns:
        The heads, in the order of `configs`. One that diverged is among them, with a loss of nan. `train` and `val` of
        each are what its weights answer, by argmax (the first of equals), in NumPy, as a loaded head is scored; so is
        the last row of its history, or that of its best epoch where patience kept it. What the other rows have is in
        `EpochRow`.

    Raises:
        UsageError: no heads, a split without rows, a val that does not fit, patience without val, or a watch over
            heads of different epochs.
    """
    _check(train, val, configs)
    passes: dict[tuple[object, ...], list[int]] = {}
    for index, config in enumerate(configs):
        passes.setdefault(config.batches, []).append(index)
    if watch is not None and len({config.epochs for config in configs}) > 1:
        raise UsageError("heads that are watched need the same number of epochs.")
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

        side_by_side = [list(passes.values())] if watch is not None else [[which] for which in passes.values()]
        for group in side_by_side:
            with ExitStack() as opened:
                begun = [
                    opened.enter_context(
                        closing(_one_pass(data, on_val, [configs[i] for i in which], moments, select, told, watch))
                    )
                    for which in group
                ]
                for which, trained in zip(group, _to_the_end(begun, group, watch), strict=True):
                    heads.update(zip(which, trained, strict=True))
        return [_scored(heads[index], train, val) for index in range(len(configs))]


def _to_the_end(passes: Sequence[Pass], places: Sequence[Sequence[int]], watch: Watch | None) -> list[list[LinearHead]]:
    """Take passes through their epochs side by side, and return the heads of each.

    Args:
        passes: not begun yet.
        places: what the heads of each pass are called by the watch.
        watch: as in `train_heads`.
    """
    on_val: dict[int, Scores | None] = {}
    stopped: Collection[int] = ()
    ended: dict[int, list[LinearHead]] = {}
    for epoch in count():
        for number, (one, own) in enumerate(zip(passes, places, strict=True)):
            if number in ended:
                continue
            try:
                scored = one.send([head for head, place in enumerate(own) if place in stopped]) if epoch else next(one)
            except StopIteration as end:
                ended[number] = end.value
            else:
                on_val.update(zip(own, scored, strict=True))
        if len(ended) == len(passes):
            break
        if watch is not None:
            stopped = watch(epoch + 1, [on_val[place] for place in sorted(on_val)])
    return [ended[number] for number in range(len(passes))]


def _one_pass(
    train: Supply, val: Supply | None, configs: Sequence[HeadConfig], moments: Moments, select: str,
    told: Callable[[], None], watch: Watch | None,
) -> Pass:  # fmt: skip
    """Heads that see the same batches."""
    first = configs[0]
    rows = len(train.y)
    stack = stack_for(train, configs, len(moments.counts))(
        configs, moments, rows, first.steps(rows), str(train.y.device)
    )
    with stack:
        return (yield from _trained(stack, train, val, configs, select, told, watch is not None))


def _trained(
    stack: Heads, train: Supply, val: Supply | None, configs: Sequence[HeadConfig], select: str,
    told: Callable[[], None], watched: bool,
) -> Pass:  # fmt: skip
    first, rows = configs[0], len(train.y)
    courses = [Course(config, select) for config in configs]
    needs_val = watched or any(c.patience or c.schedule == "plateau" for c in configs)
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
        before = stack.learnt(torch.cat(labels))
        last = epoch == first.epochs and not needs_val  # else this pass is the final score
        after: list[Scores | None] = [None] * len(configs)
        if val is not None and not last:
            after[:] = stack.score(val.blocks(), len(val.y))
        for head, course in enumerate(courses):
            if not course.stopped:
                history[head].append(EpochRow(epoch, before[head], after[head]))
                if course.after(epoch, before[head], after[head]):
                    kept[head] = stack.w[stack.place(head)].clone()
        for head in (yield after) or ():
            courses[head].stop()
        told()
        if all(course.stopped for course in courses):
            break
    for head, weights in kept.items():
        stack.w[stack.place(head)] = weights
    weight, bias = stack.answers()
    steps = first.steps(rows) // first.epochs
    return [
        LinearHead(
            config, weight[head], bias[head], steps * len(history[head]), tuple(history[head]), UNSCORED, None,
            best_epoch=courses[head].best_epoch,
        )
        for head, config in enumerate(configs)
    ]  # fmt: skip


def _scored(head: LinearHead, train: Features | Streamed, val: Features | None) -> LinearHead:
    """The head with its scores: in NumPy, as a loaded head will be scored, so that both give the same numbers."""
    if isinstance(train, Streamed):
        blocks = ((x, train.y[rows]) for x, rows in train.blocks())
        on_train = scores_on(head.logits, blocks, len(train.classes))
    else:
        on_train = scores(head.logits, train)
    if val is None:
        return replace(head, train=on_train)
    on_val, history = scores(head.logits, val), list(head.history)
    ended = (head.best_epoch or len(history)) - 1
    history[ended] = replace(history[ended], val=on_val)
    return replace(head, train=on_train, val=on_val, history=tuple(history))


def moments_of(train: Features | Streamed, configs: Sequence[HeadConfig]) -> Moments:
    """Rows of each class, and mean and deviation of each dimension where a head standardises.

    In float64, in two passes, the second of which corrects the first (Chan, Golub & LeVeque 1983, eq. 1.7). What counts
    as constant is scikit-learn's StandardScaler's: a variance that is within the rounding of such sums.
    """
    counts, rows = np.bincount(train.y, minlength=len(train.classes)), len(train.y)
    mean, left, square = (np.zeros(width_of(train)) for _ in range(3))
    if not any(config.standardize for config in configs):
        return Moments(counts, mean, np.ones_like(mean))
    with np.errstate(over="ignore", invalid="ignore"):  # of rows that are not finite: the head diverges
        for x in _blocks(train):
            mean += x.sum(axis=0, dtype=np.float64)
        mean /= rows
        for x in _blocks(train):
            away = x - mean
            left += away.sum(axis=0)
            square += np.square(away).sum(axis=0)
        mean += left / rows
        variance = np.maximum(square - left**2 / rows, 0) / rows
        std = np.sqrt(variance)
        constant = variance <= rows * DOUBLE_EPS * variance + (rows * mean * DOUBLE_EPS) ** 2
        std[constant | (std < LEAST_STD)] = 1
    return Moments(counts, mean, std)


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
    from featcache.heads.training.numba_stack import FusedStack

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
