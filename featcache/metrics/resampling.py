"""How figures vary when whole groups are drawn again; sparse, in bounded memory.

A resample is a weighting of the groups: a block of resamples is one product of the groups' sparse counts and the
block's weights, and only the sums that a standard deviation needs are kept of it.
"""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array, vstack

from featcache.metrics.groups import Doubles, GroupCounts

HeadsReducer = Callable[[Doubles], Doubles]  # (heads, 2 + classes, n) -> (2 + classes, n)

RESAMPLES = 10_000
FEWEST_RESAMPLES = 1_000
WORK = 600_000_000  # what all resamples may cost, in additions: two seconds on one core
BLOCK = 2**21  # numbers that an array of a block may hold; about eight are alive at a time: 130 MB


def affordable_resamples(groups: GroupCounts) -> int:
    """Return RESAMPLES, or as many as `WORK` allows; of 1,000 a standard error is off by 2 %, of 10,000 by 0.7 %."""
    draws = 40 * len(groups.count) if _is_multinomial(groups) else 7 * groups.number
    work = draws + groups.hits.nnz + groups.support.nnz + 10 * groups.heads * groups.classes
    return int(np.clip(WORK // work, FEWEST_RESAMPLES, RESAMPLES))


def point_estimates(groups: GroupCounts, reduce_heads: HeadsReducer) -> Doubles:
    """Return the figures themselves, (2 + classes,)."""
    return reduce_heads(_figures(_columns(groups) @ groups.count[:, None].astype(np.float64), groups))[..., 0]


def standard_errors(groups: GroupCounts, reduce_heads: HeadsReducer, resamples: int, seed: int) -> Doubles:
    """Return the standard deviation of each figure over the resamples in which it is defined, (2 + classes,)."""
    point, columns = point_estimates(groups, reduce_heads), _columns(groups)
    resampled, first, second = (np.zeros(point.shape) for _ in range(3))
    for weights in _weights(groups, resamples, seed):
        drawn = reduce_heads(_figures(columns @ np.ascontiguousarray(weights.T, dtype=np.float64), groups))
        drawn -= point[..., None]  # small numbers: their squares lose nothing
        is_defined = ~np.isnan(drawn)
        drawn[~is_defined] = 0
        resampled += is_defined.sum(axis=-1)
        first += drawn.sum(axis=-1)
        second += np.einsum("fn,fn->f", drawn, drawn)
    with np.errstate(invalid="ignore"):
        spread: Doubles = np.sqrt(np.maximum(second / resampled - (first / resampled) ** 2, 0))
    return spread


def _columns(groups: GroupCounts) -> csr_array:
    return csr_array(vstack([groups.hits.T, groups.support.T], format="csr"))


def _weights(groups: GroupCounts, resamples: int, seed: int) -> Iterator[npt.NDArray[np.int64]]:
    """Yield how often each kind is drawn, (resamples, kinds), a block at a time; the same whatever a block's size."""
    random = np.random.default_rng(seed)
    kinds, number = len(groups.count), groups.number
    kind_of_group = np.repeat(np.arange(kinds), groups.count)
    is_multinomial = _is_multinomial(groups)
    wide = max(kinds if is_multinomial else number, (groups.heads + 1) * (groups.classes + 2))
    block = max(1, BLOCK // wide)
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        if is_multinomial:
            yield random.multinomial(number, groups.count / number, size=size)
            continue
        picked = random.integers(0, number, size=(size, number))
        picked = picked if kinds == number else kind_of_group[picked]  # where no two are alike, a group is its own kind
        picked += (np.arange(size) * kinds)[:, None]
        yield np.bincount(picked.ravel(), minlength=size * kinds).reshape(size, kinds)


def _is_multinomial(groups: GroupCounts) -> bool:
    """Whether groups are drawn by kind: where many are alike, one binomial draw a kind is less than one a group."""
    return len(groups.count) * 8 < groups.number


def _figures(sums: Doubles, groups: GroupCounts) -> Doubles:
    """Return accuracy, macro recall and each recall, (heads, 2 + classes, n), of sums (columns, n); nan: undefined."""
    hits = sums[: groups.hits.shape[1]].reshape(groups.heads, groups.classes, -1)
    support = sums[groups.hits.shape[1] :].reshape(-1, groups.classes, sums.shape[1])
    figures = np.empty((groups.heads, 2 + groups.classes, sums.shape[1]))
    with np.errstate(invalid="ignore", divide="ignore"):
        np.divide(hits, support, out=figures[:, 2:])
        figures[:, 0] = hits.sum(axis=1) / support.sum(axis=1)
        figures[:, 1] = np.where(support > 0, figures[:, 2:], 0).sum(axis=1) / (support > 0).sum(axis=1)
    return figures
