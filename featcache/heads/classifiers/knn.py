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
from featcache.heads.classifiers.classifier import (
    ClassifierSettings,
    Embeddings,
    Labels,
    ModelOutput,
    SettingChoices,
    score_output,
)
from featcache.heads.classifiers.settings import combinations, refuse_unknown
from featcache.heads.classifiers.trials import (
    SearchOptions,
    SearchResult,
    SearchTrial,
    best_trial,
    refuse_choice_without_val,
)

if TYPE_CHECKING:
    import torch

QUERIES, TILE = 4_096, 8_192  # rows of a product: 128 MB of float32
GROUP = 32  # columns of a tile that are looked at as one
DEFAULTS: SettingChoices = {"k": (20,), "temperature": (0.07,), "weights": ("temperature",)}
WITH_VAL = (5, 10, 20, 50, 100, 200)  # the k to choose among where a val split can choose
WEIGHTS = ("temperature", "uniform")

Cosines = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Knn:
    """k-NN: the training rows are the classifier."""

    x: Embeddings  # of the training rows
    y: Labels
    classes: int
    k: int
    temperature: float
    weights: str  # one of WEIGHTS
    device: str = "cpu"  # where rows are compared

    @property
    def gives_probabilities(self) -> bool:
        """Always: the shares of the vote."""
        return True

    def predict(self, x: Embeddings) -> ModelOutput:
        """Return the labels of embeddings, and the share of the vote that each class has.

        Args:
            x: (rows, dim) float32, as the trunk gave them.

        Raises:
            UsageError: there are fewer than k training rows.
        """
        cosines, neighbours = find_neighbours(self.x, x, self.k, device=self.device)
        return self.vote(cosines, self.y[neighbours])

    def vote(self, cosines: Cosines, labels: Labels) -> ModelOutput:
        """Return what the nearest rows vote for.

        Args:
            cosines: Of the nearest rows, (rows, at least k), most similar first.
            labels: Of the same rows, (rows, at least k).
        """
        cosines, labels = cosines[:, : self.k], labels[:, : self.k]
        weight = neighbour_weights(cosines, self.temperature, self.weights)
        cells = np.arange(len(cosines))[:, None] * self.classes + labels
        votes = np.bincount(cells.ravel(), weight.ravel(), minlength=len(cosines) * self.classes)
        votes = votes.reshape(len(cosines), self.classes)
        return ModelOutput(votes.argmax(axis=1), (votes / votes.sum(axis=1, keepdims=True)).astype(np.float32))


def search_knn(train: Features, val: Features | None, choices: SettingChoices, options: SearchOptions) -> SearchResult:
    """Return every combination of k, temperature and weights, scored on val from one pass; nothing is trained.

    Args:
        train: The rows that become the classifier.
        val: The split that chooses; None where there is none, and then one combination is all that can be asked for.
        choices: The values of k, temperature and weights to choose among; what is not named has its default.
        options: The device, and whom to tell how far it is.

    Raises:
        CacheError: several combinations, and no val split.
        UsageError: a setting that k-NN does not have, or one out of its range.
    """
    tried = knn_combinations(choices, len(train.y), has_val=val is not None)
    refuse_choice_without_val(train, val, len(tried))
    candidates = [_knn(train, options.device, **settings) for settings in tried]
    began = time.perf_counter()
    if val is not None:
        largest = max(knn.k for knn in candidates)
        cosines, neighbours = find_neighbours(train.x, val.x, largest, device=options.device, progress=options.progress)
        labels = train.y[neighbours]
    scores = [
        None if val is None else score_output(knn.vote(cosines, labels), val.y, knn.classes) for knn in candidates
    ]
    share = (time.perf_counter() - began) / len(tried)
    trials = tuple(
        SearchTrial(settings=settings, val=on_val, seconds=share)
        for settings, on_val in zip(tried, scores, strict=True)
    )
    best = best_trial(trials)
    output = None if val is None else candidates[best].vote(cosines, labels)
    # No scores on train: the nearest of its own rows is each row itself.
    return SearchResult(trials, best, candidates[best], None, output)


def knn_combinations(choices: SettingChoices, rows: int, *, has_val: bool) -> list[ClassifierSettings]:
    """Return every combination of k, temperature and weights that is tried.

    Args:
        choices: The values to choose among; what is not named has its default.
        rows: Of the training split.
        has_val: Whether a val split can choose.

    Raises:
        UsageError: a setting that k-NN does not have.
    """
    refuse_unknown("knn", choices, tuple(DEFAULTS))
    defaults = dict(DEFAULTS)
    if has_val:
        defaults["k"] = tuple(k for k in WITH_VAL if k <= rows) or (1,)
    elif rows < 20:
        defaults["k"] = (rows,)
    return combinations(_without_idle_temperatures({**defaults, **choices}))


def neighbour_weights(cosines: Cosines, temperature: float, weights: str) -> Cosines:
    """Return what each neighbour counts, (rows, k); of exp(s / T) only ratios matter: taken from the nearest.

    Args:
        cosines: Of the nearest rows, (rows, k), most similar first.
        temperature: T.
        weights: One of WEIGHTS.
    """
    is_weighted = weights == "temperature"
    counted: Cosines = np.exp((cosines - cosines[:, :1]) / temperature) if is_weighted else np.ones_like(cosines)
    return counted


def find_neighbours(
    x: Embeddings,
    queries: Embeddings,
    k: int,
    *,
    device: str = "cpu",
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> tuple[Cosines, Labels]:
    """Return the k rows with the largest cosine to each query, most similar first.

    Args:
        x: The rows to search, (rows, dim).
        queries: The rows to search for, (queries, dim).
        k: How many neighbours each query gets.
        device: Where the products are computed.
        progress: Gets the stage, the queries done and the queries to do.

    Returns:
        Their cosines (queries, k) float32, and their row numbers (queries, k) int64.

    Raises:
        UsageError: fewer than k rows.
    """
    import torch
    from torch.nn.functional import normalize

    if not 1 <= k <= len(x):
        raise UsageError(f"k is {k}, expected 1 to {len(x):,}, the number of training rows")
    cosines = np.empty((len(queries), k), dtype=np.float32)
    neighbours = np.empty((len(queries), k), dtype=np.int64)
    rows = _tensor(x).to(device)
    with torch.inference_mode():
        product = torch.empty(min(QUERIES, len(queries)) * min(TILE, len(x)), device=device)
        for start in range(0, len(queries), QUERIES):
            progress("comparing", start, len(queries))
            block = normalize(_tensor(queries[start : start + QUERIES]).to(device))
            best = at = None
            for first in range(0, len(x), TILE):
                tile = normalize(rows[first : first + TILE])
                shape = len(block), len(tile)
                of_tile = torch.mm(block, tile.t(), out=product[: shape[0] * shape[1]].view(shape))
                values, columns = _tile_candidates(of_tile, k, best)
                columns += first
                if best is not None and at is not None:
                    best, keep = torch.cat([best, values], 1).topk(min(k, first + len(tile)), dim=1)
                    at = torch.cat([at, columns], 1).gather(1, keep)
                else:
                    best, at = values, columns
            if best is not None and at is not None:
                cosines[start : start + QUERIES], neighbours[start : start + QUERIES] = best.cpu(), at.cpu()
    return cosines, neighbours


def _tile_candidates(
    cosines: "torch.Tensor", k: int, best: "torch.Tensor | None"
) -> "tuple[torch.Tensor, torch.Tensor]":
    """Return what of a tile (queries, rows) may be among the best k: values and columns, (queries, some), padded with
    -inf.

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
    part = groups[query, group]  # (groups with a candidate, GROUP)
    row, column = (part > least[query, None]).nonzero(as_tuple=True)
    owner = query[row]  # rising
    counts = torch.bincount(owner, minlength=queries)
    slot = torch.arange(len(owner), device=owner.device) - (counts.cumsum(0) - counts)[owner]
    width = int(counts.max())
    values = cosines.new_full((queries, width), -torch.inf)
    columns = torch.zeros(queries, width, dtype=torch.int64, device=cosines.device)
    values[owner, slot] = part[row, column]
    columns[owner, slot] = group[row] * GROUP + column
    return values, columns


def _knn(train: Features, device: str, **settings: object) -> Knn:
    k, temperature, weights = check_knn(len(train.y), **settings)
    return Knn(train.x, train.y, len(train.classes), k, temperature, weights, device)


def check_knn(rows: int, *, k: object, temperature: object, weights: object) -> tuple[int, float, str]:
    """Return the settings of k-NN, once they can be such.

    Args:
        rows: Of the training split.
        k: How many neighbours.
        temperature: Of their weights.
        weights: One of WEIGHTS.

    Raises:
        UsageError: one is out of its range.
    """
    if not isinstance(k, int) or isinstance(k, bool) or not 1 <= k <= rows:
        error = UsageError(f"k is {k!r}, expected a whole number from 1 to {rows:,}: the training rows")
        raise error.correct("k=", f"k={min(5, rows)}")
    if not isinstance(temperature, int | float) or isinstance(temperature, bool) or not 1e-6 <= temperature <= 1e6:
        raise UsageError(f"temperature is {temperature!r}, expected a number from 1e-6 to 1e6")
    if weights not in WEIGHTS:
        raise UsageError(f"weights is {weights!r}, expected {' or '.join(WEIGHTS)}")
    return k, float(temperature), str(weights)


def _without_idle_temperatures(choices: SettingChoices) -> SettingChoices:
    """Return choices with one temperature where every neighbour counts 1: there they make no difference."""
    return {**choices, "temperature": choices["temperature"][:1]} if choices["weights"] == ("uniform",) else choices


def _tensor(x: Embeddings) -> "torch.Tensor":
    import torch

    # A mapped store is read-only, and torch has no such tensors; nothing here writes to it.
    return torch.from_numpy(
        x if x.flags.writeable and x.flags.c_contiguous else np.array(x, dtype=np.float32, order="C")
    )
