"""python bench/logreg.py --runs 1

`featcache fit logreg --protocol dinov2`: 45 values of C from 1e-6 to 1e5 by one path of optima, beside scikit-learn's
LogisticRegression (lbfgs, its default tolerance, at most 1,000 iterations) for three of them, one fit each.

- path of 45: featcache.heads.optimum.solve_logreg_path, what it makes of the rows included
- path of 3: the same for the three values alone; scikit-learn, 3: its fits, one after the other
- rows: 259,865 x 768 x 34 as a trunk makes them (variances that fall like 1 / k, a mean away from 0), and 3,019 x 1,280

Of each of the three values the objective of both is printed, and the share of val that both answer alike. Seconds of
the wall and of the processor: where others use the machine, the processor's are those to compare.
"""

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from heads import CLASSES, ROWS, VAL_ROWS, like_embeddings, synthetic
from machine import Result, document, table
from sklearn.linear_model import LogisticRegression

from featcache.features.in_memory import Features
from featcache.heads.classifiers.protocols import LOGREG_C
from featcache.heads.optimum.logreg_path import LogregOptimum, solve_logreg_path

THREE = (LOGREG_C[8], LOGREG_C[20], LOGREG_C[28])  # 1e-4, 0.1, 10
SMALL_ROWS, SMALL_DIM = 3_019, 1_280
MOST_ITERATIONS = 1_000


@dataclass(frozen=True, slots=True)
class Taken:
    """What a task returned, and its seconds."""

    value: list[LogregOptimum] | list[LogisticRegression]
    wall: float
    processor: float


def small(rows: int, seed: int) -> Features:
    """Rows of another width, in clusters around 34 centres, made as `like_embeddings` makes them."""
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(CLASSES), rng.integers(0, CLASSES, rows - CLASSES)])
    centres = 0.25 * np.random.default_rng(99).standard_normal((CLASSES, SMALL_DIM))
    scale = 5 / np.sqrt(np.arange(1, SMALL_DIM + 1))
    x = ((rng.standard_normal((rows, SMALL_DIM)) + centres[y]) * scale + 0.5).astype(np.float32)
    none = ("",) * rows
    return Features(x, y, tuple(f"class {i}" for i in range(CLASSES)), none, none, none)


def timed(name: str, task: Callable[[], list[Any]]) -> Taken:
    wall, processor = time.perf_counter(), time.process_time()
    value = task()
    taken = Taken(value, time.perf_counter() - wall, time.process_time() - processor)
    print(f"{name}: {taken.wall:.2f} s, of the processor {taken.processor:.2f} s", file=sys.stderr, flush=True)
    return taken


def fit_each(train: Features) -> list[LogisticRegression]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it did not converge is meant
        return [LogisticRegression(C=c, max_iter=MOST_ITERATIONS).fit(train.x, train.y) for c in THREE]


def objective(weight: np.ndarray, bias: np.ndarray, train: Features, c: float) -> float:
    """The mean loss with |W|^2 / (2 C n), some rows at a time."""
    total, rows = 0.0, len(train.y)
    for start in range(0, rows, 16_384):
        part = slice(start, start + 16_384)
        z = train.x[part].astype(np.float64) @ weight.T.astype(np.float64) + bias
        z -= z.max(axis=1, keepdims=True)
        total += float(np.log(np.exp(z).sum(axis=1)).sum() - z[np.arange(len(z)), train.y[part]].sum())
    return total / rows + float((weight.astype(np.float64) ** 2).sum()) / (2 * c * rows)


def compare(name: str, train: Features, val: Features, runs: int) -> tuple[list[Result], dict[str, float]]:
    tasks: dict[str, Callable[[], list[Any]]] = {
        "path of 3": lambda: list(solve_logreg_path(train, THREE)),
        "scikit-learn, 3": lambda: fit_each(train),
        "path of 45": lambda: list(solve_logreg_path(train, LOGREG_C)),
    }
    taken: dict[str, list[Taken]] = {task: [] for task in tasks}
    for _ in range(runs):
        for task, run in tasks.items():
            taken[task].append(timed(f"{name}: {task}", run))
    results = []
    for task, each in taken.items():
        results.append(Result.of(f"{name}: {task}", "s", [one.wall for one in each]))
        results.append(Result.of(f"{name}: {task}, processor", "s", [one.processor for one in each]))
    ours, theirs = taken["path of 45"][0].value, taken["scikit-learn, 3"][0].value
    results.append(Result.of(f"{name}: iterations of 45", "", [sum(optimum.iterations for optimum in ours)]))
    by_c = {optimum.c: optimum for optimum in ours}
    for c, model in zip(THREE, theirs, strict=True):
        optimum = by_c[c]
        ratio = objective(optimum.weight, optimum.bias, train, c) / objective(
            model.coef_, model.intercept_, train, c
        )  # fmt: skip
        alike = (val.x @ optimum.weight.T + optimum.bias).argmax(axis=1) == model.predict(val.x)
        results.append(Result.of(f"{name}: C {c:g}, objective by theirs", "", [ratio]))
        results.append(Result.of(f"{name}: C {c:g}, val alike", "share", [float(alike.mean())]))
        results.append(Result.of(f"{name}: C {c:g}, iterations, theirs", "", [int(model.n_iter_[0])]))
    median = {result.name: result.median for result in results}
    short = name.split()[0]
    return results, {
        f"{short}_three_vs_sklearn": median[f"{name}: scikit-learn, 3"] / median[f"{name}: path of 3"],
        f"{short}_three_vs_sklearn_processor": median[f"{name}: scikit-learn, 3, processor"]
        / median[f"{name}: path of 3, processor"],
        f"{short}_one_of_45_vs_sklearn": 15 * median[f"{name}: scikit-learn, 3"] / median[f"{name}: path of 45"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="The path of C beside scikit-learn.")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--only", choices=("large", "small"), help="one of the two")
    parser.add_argument("--share", type=float, default=1.0, help="of the 259,865 rows")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    results: list[Result] = []
    ratios: dict[str, float] = {}
    if arguments.only != "large":
        found, of = compare("small", small(SMALL_ROWS, 0), small(1_000, 1), arguments.runs)
        results, ratios = results + found, ratios | of
    if arguments.only != "small":
        train = like_embeddings(synthetic(round(ROWS * arguments.share), seed=0))
        val = like_embeddings(synthetic(round(VAL_ROWS * arguments.share), seed=1))
        found, of = compare("large", train, val, arguments.runs)
        results, ratios = results + found, ratios | of
    print(document(results, ratios) if arguments.json else table(results, ratios))


if __name__ == "__main__":
    main()
