"""k-NN: exact, cosine, weighted by temperature, as in Wu et al. 2018 (section 3.4) and DINO's evaluation.

With the rows on the unit sphere, a query x takes its k most similar training rows N; class c gets

    p(c) = sum over i in N with label c of exp(x . x_i / T)  /  the same sum over all of N

and the class with most wins; `weights = "uniform"` counts 1 a neighbour instead. The neighbours of the largest k
contain those of every smaller one, so one pass serves every k, every T and both ways to count.

The products are computed in tiles of queries x training rows, and what of a tile beats the best k so far is merged
into them: selection reads a tile once, and memory does not grow with either side.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from featcache.errors import UsageError
from featcache.features import Features
from featcache.heads.classifiers.answers import (
    Answers,
    Choices,
    Found,
    Labels,
    Means,
    Rows,
    Trial,
    best_of,
    refuse_choice,
    scores_of,
)
from featcache.heads.classifiers.settings import combinations, refuse_unknown

if TYPE_CHECKING:
    import torch

QUERIES, TILE = 4_096, 8_192  # rows of a product: 128 MB of float32
GROUP = 32  # columns of a tile that are looked at as one
DEFAULTS: Choices = {"k": (20,), "temperature": (0.07,), "weights": ("temperature",)}
WITH_VAL = (5, 10, 20, 50, 100, 200)  # the k to choose among where a val split can choose
WEIGHTS = ("temperature", "uniform")

Similarities = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Knn:
    """The training rows are the classifier; `device` is where it computes."""

    x: Rows
    y: Labels
    classes: int
    k: int
    temperature: float
    weights: str
    device: str = "cpu"

    def answer(self, x: Rows) -> Answers:
        """Predictions, and the share of the vote that each class has."""
        near, rows = neighbours(self.x, x, self.k, device=self.device)
        return self.votes(near, self.y[rows])

    def votes(self, near: Similarities, labels: Labels) -> Answers:
        """Answers from similarities and labels (rows, at least k), most similar first."""
        near, labels = near[:, : self.k], labels[:, : self.k]
        # Of exp(s / T) only ratios matter; taken from the nearest, none overflows.
        scale = np.exp((near - near[:, :1]) / self.temperature) if self.weights == "temperature" else np.ones_like(near)
        cells = np.arange(len(near))[:, None] * self.classes + labels
        votes = np.bincount(cells.ravel(), scale.ravel(), minlength=len(near) * self.classes)
        votes = votes.reshape(len(near), self.classes)
        return Answers(votes.argmax(axis=1), (votes / votes.sum(axis=1, keepdims=True)).astype(np.float32))


def search_knn(train: Features, val: Features | None, choices: Choices, means: Means) -> Found:
    """Every k, temperature and way to count, judged on val from one pass; nothing is trained.

    Raises:
        UsageError: a setting that k-NN does not have, or one out of its range.
    """
    refuse_unknown("knn", choices, tuple(DEFAULTS))
    defaults = dict(DEFAULTS)
    if val is not None:
        defaults["k"] = tuple(k for k in WITH_VAL if k <= len(train.y)) or (1,)
    elif len(train.y) < 20:
        defaults["k"] = (len(train.y),)
    asked = combinations(_without_idle_temperatures({**defaults, **choices}))
    refuse_choice(train, val, len(asked))
    candidates = [_knn(train, means.device, **settings) for settings in asked]
    began = time.perf_counter()
    trials, answers = [], []
    if val is not None:
        largest = max(knn.k for knn in candidates)
        near, rows = neighbours(train.x, val.x, largest, device=means.device, progress=means.progress)
        labels = train.y[rows]
    for settings, knn in zip(asked, candidates, strict=True):
        found = None if val is None else scores_of(knn.votes(near, labels), val.y, knn.classes)
        trials.append((settings, found))
        answers.append(found)
    share = (time.perf_counter() - began) / len(asked)
    done = tuple(Trial(settings=settings, val=found, seconds=share) for settings, found in trials)
    best = best_of(done)
    on_val = None if val is None else candidates[best].votes(near, labels)
    return Found(done, best, candidates[best], None, on_val)  # asked about its own rows, k-NN finds those rows


def neighbours(
    x: Rows,
    queries: Rows,
    k: int,
    *,
    device: str = "cpu",
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> tuple[Similarities, Labels]:
    """The k rows of `x` with the largest cosine to each query: (queries, k) cosines, falling, and row numbers.

    Raises:
        UsageError: fewer than k rows.
    """
    import torch
    from torch.nn.functional import normalize

    if not 1 <= k <= len(x):
        raise UsageError(f"k is {k}, expected 1 to {len(x):,}: the training rows")
    near = np.empty((len(queries), k), dtype=np.float32)
    rows = np.empty((len(queries), k), dtype=np.int64)
    everything = _tensor(x).to(device)
    with torch.inference_mode():
        product = torch.empty(min(QUERIES, len(queries)) * min(TILE, len(x)), device=device)
        for start in range(0, len(queries), QUERIES):
            progress("comparing", start, len(queries))
            block = normalize(_tensor(queries[start : start + QUERIES]).to(device))
            best = at = None
            for first in range(0, len(x), TILE):
                tile = normalize(everything[first : first + TILE])
                shape = len(block), len(tile)
                cosines = torch.mm(block, tile.t(), out=product[: shape[0] * shape[1]].view(shape))
                values, places = _candidates(cosines, k, best)
                places += first
                if best is not None and at is not None:
                    best, keep = torch.cat([best, values], 1).topk(min(k, first + len(tile)), dim=1)
                    at = torch.cat([at, places], 1).gather(1, keep)
                else:
                    best, at = values, places
            if best is not None and at is not None:
                near[start : start + QUERIES], rows[start : start + QUERIES] = best.cpu(), at.cpu()
    return near, rows


def _candidates(cosines: "torch.Tensor", k: int, best: "torch.Tensor | None") -> "tuple[torch.Tensor, torch.Tensor]":
    """What of a tile (queries, rows) may be among the best k: values and columns, (queries, some), padded with -inf.

    Once k are known, only what beats the k-th of them matters: soon a few of a tile's thousands. The largest of each
    group of columns says where to look, so that the tile is read once, and in order.
    """
    import torch

    queries, rows = cosines.shape
    if best is None or best.shape[1] < k or rows % GROUP:
        return cosines.topk(min(k, rows), dim=1)
    least = best[:, -1]
    groups = cosines.view(queries, rows // GROUP, GROUP)
    query, group = (groups.amax(2) > least[:, None]).nonzero(as_tuple=True)
    if len(query) * GROUP * 4 > queries * rows:  # a tile full of near rows
        return cosines.topk(min(k, rows), dim=1)
    part = groups[query, group]  # (groups found, GROUP)
    found, column = (part > least[query, None]).nonzero(as_tuple=True)
    owner = query[found]  # rising
    counts = torch.bincount(owner, minlength=queries)
    slot = torch.arange(len(owner), device=owner.device) - (counts.cumsum(0) - counts)[owner]
    width = int(counts.max())
    values = cosines.new_full((queries, width), -torch.inf)
    columns = torch.zeros(queries, width, dtype=torch.int64, device=cosines.device)
    values[owner, slot] = part[found, column]
    columns[owner, slot] = group[found] * GROUP + column
    return values, columns


def _knn(train: Features, device: str, *, k: object, temperature: object, weights: object) -> Knn:
    if not isinstance(k, int) or isinstance(k, bool) or not 1 <= k <= len(train.y):
        raise UsageError(f"k is {k!r}, expected a whole number from 1 to {len(train.y):,}: the training rows")
    if not isinstance(temperature, int | float) or isinstance(temperature, bool) or not 1e-6 <= temperature <= 1e6:
        raise UsageError(f"temperature is {temperature!r}, expected a number from 1e-6 to 1e6")
    if weights not in WEIGHTS:
        raise UsageError(f"weights is {weights!r}, expected {' or '.join(WEIGHTS)}")
    return Knn(train.x, train.y, len(train.classes), k, float(temperature), str(weights), device)


def _without_idle_temperatures(choices: Choices) -> Choices:
    """Where every neighbour counts 1, temperatures make no difference: one of them stands for all."""
    return {**choices, "temperature": choices["temperature"][:1]} if choices["weights"] == ("uniform",) else choices


def _tensor(x: Rows) -> "torch.Tensor":
    import torch

    # A mapped store is read-only, and torch has no such tensors; nothing here writes to it.
    return torch.from_numpy(
        x if x.flags.writeable and x.flags.c_contiguous else np.array(x, dtype=np.float32, order="C")
    )
