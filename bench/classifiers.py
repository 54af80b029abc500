"""python bench/classifiers.py --runs 1

k-NN and ridge at Drive&Act's size, synthetic: 259,865 x 768 float32, 34 classes; for k-NN the first --queries of
56,024 val rows, k = 200.

- knn: featcache.heads.classifiers.knn.find_neighbours; its ceiling: the same products in the same tiles, alone
- knn, sklearn: NearestNeighbors(algorithm="brute", metric="cosine"); knn, faiss: IndexFlatIP, where faiss is installed
- ridge: one pass, one eigendecomposition, 20 alphas; its ceiling: the float64 Gram matrix alone
- ridge, sklearn: one fit of RidgeClassifier, for one alpha

What is compared is equal first: neighbours with scikit-learn's on a sample, ridge's scores for every alpha.
"""

import argparse
import resource
from collections.abc import Callable

import numpy as np
import torch
from heads import DIM, ROWS, VAL_ROWS, synthetic
from machine import Result, alternate, document, table
from sklearn.linear_model import RidgeClassifier
from sklearn.neighbors import NearestNeighbors

from featcache.heads.classifiers import knn, ridge

K = 200
ALPHAS = np.logspace(-3, 6, 20)
SAMPLE = 256  # queries that are compared one by one
RIDGE_SAMPLE = 20_000  # rows on which every alpha is compared


@torch.inference_mode()
def products(x: torch.Tensor, queries: torch.Tensor) -> None:
    """The matrix products of k-NN, and nothing else."""
    out = torch.empty(knn.QUERIES * knn.TILE)
    for start in range(0, len(queries), knn.QUERIES):
        block = queries[start : start + knn.QUERIES]
        for first in range(0, len(x), knn.TILE):
            tile = x[first : first + knn.TILE]
            torch.mm(block, tile.t(), out=out[: len(block) * len(tile)].view(len(block), len(tile)))


def gram(x: np.ndarray) -> np.ndarray:
    """The Gram matrix in float64, block by block, and nothing else."""
    total = np.zeros((DIM, DIM))
    for start in range(0, len(x), 8_192):
        block = x[start : start + 8_192].astype(np.float64)
        total += block.T @ block
    return total


def twenty(x: np.ndarray, y: np.ndarray) -> None:
    found = ridge.decompose(x, y)
    for alpha in ALPHAS:
        found.to_ridge(float(alpha))


def knn_agreement(x: np.ndarray, queries: np.ndarray) -> tuple[float, float]:
    """The share of neighbours that scikit-learn finds too, and the largest difference of the k cosines."""
    sample = queries[:SAMPLE]
    near, rows = knn.find_neighbours(x, sample, K)
    distance, theirs = NearestNeighbors(n_neighbors=K, algorithm="brute", metric="cosine").fit(x).kneighbors(sample)
    shared = np.mean([len(np.intersect1d(a, b)) / K for a, b in zip(rows, theirs, strict=True)])
    return float(shared), float(np.abs(near - (1 - distance)).max())


def ridge_difference(x: np.ndarray, y: np.ndarray) -> float:
    """The largest difference of a coefficient over all alphas, as a share of that alpha's largest coefficient."""
    found, worst = ridge.decompose(x, y), 0.0
    for alpha in ALPHAS:
        theirs = RidgeClassifier(alpha=alpha).fit(x.astype(np.float64), y)
        coef, intercept = found.solve(float(alpha))
        scale = np.abs(theirs.coef_).max()
        difference = max(np.abs(coef - theirs.coef_).max(), np.abs(intercept - theirs.intercept_).max())
        worst = max(worst, float(difference / scale))
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description="k-NN and ridge beside their ceilings and beside others.")
    parser.add_argument("--queries", type=int, default=8_192, help=f"val rows of k-NN, at most {VAL_ROWS:,}")
    parser.add_argument("--runs", type=int, default=3, help="alternating runs of everything")
    parser.add_argument("--only", choices=("knn", "ridge"), help="one of the two")
    parser.add_argument("--no-peers", action="store_true", help="leave scikit-learn's and faiss's k-NN out")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of the table")
    args = parser.parse_args()

    train, val = synthetic(ROWS, seed=0), synthetic(min(args.queries, VAL_ROWS), seed=1)
    x, y, queries = train.x, train.y, val.x
    tensor, asked = torch.from_numpy(x), torch.from_numpy(queries)
    tasks: dict[str, Callable[[], object]] = {}
    results: list[Result] = []
    if args.only != "ridge":
        held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        knn.find_neighbours(x[:20_000], queries, K)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held
        results.append(Result.of("knn: memory beside the rows", "MB", [grown / 1024]))
        share, difference = knn_agreement(x, queries)
        results.append(Result.of("knn: neighbours as scikit-learn's", "share", [share]))
        results.append(Result.of("knn: largest difference of a cosine", "1e-6", [1e6 * difference]))
        tasks["knn ceiling"] = lambda: products(tensor, asked)
        tasks["knn"] = lambda: knn.find_neighbours(x, queries, K)
        if not args.no_peers:
            brute = NearestNeighbors(n_neighbors=K, algorithm="brute", metric="cosine").fit(x)
            tasks["knn, sklearn"] = lambda: brute.kneighbors(queries)
            tasks |= faiss_tasks(x, queries)
    if args.only != "knn":
        worst = ridge_difference(x[:RIDGE_SAMPLE], y[:RIDGE_SAMPLE])
        results.append(Result.of("ridge: largest difference, 20 alphas", "1e-6", [1e6 * worst]))
        tasks["ridge ceiling"] = lambda: gram(x)
        tasks["ridge, 20 alphas"] = lambda: twenty(x, y)
        tasks["ridge, sklearn, 1 alpha"] = lambda: RidgeClassifier(alpha=1.0).fit(x, y)
    timed = {result.name: result for result in alternate(tasks, args.runs)}
    of = {name: result.median for name, result in timed.items()}
    ratios = {}
    if "knn" in of:
        ratios["knn_vs_ceiling"] = of["knn"] / of["knn ceiling"]
        ratios |= {
            f"knn_vs_{peer}": of[f"knn, {peer}"] / of["knn"] for peer in ("sklearn", "faiss") if f"knn, {peer}" in of
        }
    if "ridge, 20 alphas" in of:
        ratios["ridge20_vs_ceiling"] = of["ridge, 20 alphas"] / of["ridge ceiling"]
        ratios["ridge20_vs_one_sklearn_fit"] = of["ridge, 20 alphas"] / of["ridge, sklearn, 1 alpha"]
    results = [*results, *timed.values()]
    print(document(results, ratios) if args.json else table(results, ratios))


def faiss_tasks(x: np.ndarray, queries: np.ndarray) -> dict[str, Callable[[], object]]:
    """Faiss's exact search on rows that were normalised before; none where faiss is not installed."""
    try:
        import faiss
    except ImportError:
        return {}
    index = faiss.IndexFlatIP(DIM)
    rows = x.copy()
    faiss.normalize_L2(rows)
    index.add(rows)
    normed = queries.copy()
    faiss.normalize_L2(normed)
    return {"knn, faiss": lambda: index.search(normed, K)}


if __name__ == "__main__":
    main()
