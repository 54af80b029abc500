"""python bench/precision.py shared/data/hymenoptera

What a cheaper embedding costs: bfloat16 computation, float16 storage, --decode fast and, on CUDA, --decode gpu, each
against float32 with the exact decoder, on the photographs of a folder with train and val. Seeded vit_b_16 weights,
saved to a file and loaded as a user's would be. Of every image: 1 - cosine and the relative error of its embedding; of
a head (logistic regression on the standardised train embeddings): the share of val images on which both heads agree,
and macro recall.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import describe
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import featcache
from featcache import Features

KINDS = {
    "float32, exact": {"precision": "fp32"},
    "computed in bfloat16": {"precision": "bf16"},
    "--decode fast": {"precision": "fp32", "decode": "fast"},
}
if torch.cuda.is_available():
    KINDS["--decode gpu"] = {"precision": "fp32", "decode": "gpu"}


def embed(data: Path, scratch: Path, weights: Path, limit: int | None, **asked: Any) -> tuple[Features, Features]:
    """Train and val as this kind of extract makes them."""
    found = featcache.extract(data=str(data), cache=scratch, weights=str(weights), limit=limit, **asked)
    train, val = (
        featcache.load(split, data=str(data), cache=scratch, store=found[0].store) for split in ("train", "val")
    )
    return train, val


def main() -> None:
    parser = argparse.ArgumentParser(description="what a cheaper embedding costs", allow_abbrev=False)
    parser.add_argument("data", type=Path)
    parser.add_argument("--limit", type=int, help="so many images of each split, stratified")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    rows: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        from torchvision.models import vit_b_16

        torch.manual_seed(0)
        weights = Path(folder) / "vit.pth"
        torch.save(vit_b_16().state_dict(), weights)
        found = {}
        for kind, flags in KINDS.items():
            pair = embed(asked.data, Path(folder) / "cache", weights, asked.limit, **flags)
            for stored in ("float32", "float16"):
                name = kind if stored == "float32" else f"{kind}, stored float16"
                found[name] = [replace(one, x=one.x.astype(stored).astype(np.float32)) for one in pair]
        reference = None
        for kind, (train, val) in found.items():
            head = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000)).fit(train.x, train.y)
            said = head.predict(val.x)
            x = np.concatenate([train.x, val.x])
            reference = reference or (x, said)
            rows[kind] = {
                "cosine_distance": float((1 - _cosine(x, reference[0])).max()),
                "relative_error_median": float(np.median(_error(x, reference[0]))),
                "relative_error_max": float(_error(x, reference[0]).max()),
                "agreement": float((said == reference[1]).mean()),
                "macro_recall": float(balanced_accuracy_score(val.y, said)),
            }
    if asked.json:
        print(json.dumps({"machine": describe(), "images": len(x), "kinds": rows}, indent=2))
        return
    print(f"{describe()}; {len(x)} images\n")
    print(f"{'':26} {'1 - cosine':>11} {'median':>9} {'max error':>10} {'agreement':>10} {'macro recall':>13}")
    for kind, row in rows.items():
        print(
            f"{kind:26} {row['cosine_distance']:11.1e} {row['relative_error_median']:9.1e} "
            f"{row['relative_error_max']:10.1e} {row['agreement']:10.1%} {row['macro_recall']:13.1%}"
        )


def _cosine(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    one, other = one.astype(np.float64), other.astype(np.float64)
    cosine: np.ndarray = (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    return cosine


def _error(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    error: np.ndarray = np.linalg.norm(one - other, axis=1) / np.linalg.norm(other, axis=1)
    return error


if __name__ == "__main__":
    main()
