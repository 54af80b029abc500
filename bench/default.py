"""python bench/default.py --seeds 5

What `fit-head` and `fit logreg` choose where nobody gives a setting, beside large searches: macro recall on test, of
what val chose. Real photographs, `../shared/data/hymenoptera` and `../shared/data/pizza_steak_sushi`, and 760 of
scikit-learn's scans of digits; the embeddings are those of a real pretrained network, EfficientNet-Lite0 (1280
dimensions, pooled), computed by timm (`pip install timm`) with its own transform. What is not there is named and left
out.

Val is a fifth of train, stratified, drawn anew by every seed; test is the same for all of them (hymenoptera has none,
and its val is taken for that). A figure is the median over the seeds.

- before: one head, lr 0.003, batches of 1024: what fit-head trained without --lr once
- default: what it trains now
- grid: 100 heads, lr x weight decay x optimizer x class weights, on the default's batches
- logreg, C = 1; logreg: what `fit logreg` tries; logreg, 45 C: from 1e-6 to 1e5
- joined, N % noise: the photographs as one set of five classes, N % of whose labels in train and val are drawn at
  random, so that regularisation matters (as they are, they are nearly separable); the labels of test are right
"""

import argparse
import importlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from machine import describe
from sklearn.model_selection import train_test_split

from featcache.features.in_memory import Features
from featcache.heads.classifiers.estimators import search_estimators
from featcache.heads.classifiers.trials import SearchOptions
from featcache.heads.config import HeadConfig
from featcache.heads.default_grid import default_batch_size, fill_in_defaults
from featcache.heads.grid import head_configs
from featcache.heads.linear import best_of
from featcache.heads.training.train import train_heads
from featcache.metrics.confusion import confusion_matrix, macro_recall
from featcache.recipe.sections import HeadSection

SHARED = Path(__file__).parents[2] / "shared" / "data"
WEIGHTS = SHARED / "weights" / "tf_efficientnet_lite0.safetensors"
SETS = {"digits": "test", "hymenoptera": "val", "pizza_steak_sushi": "test"}  # and what is taken for test
PHOTOGRAPHS = ("hymenoptera", "pizza_steak_sushi")
SCANS = 760  # of scikit-learn's digits, two fifths of them for test
NOISE = (0.2, 0.4)
SUFFIXES = (".jpg", ".jpeg", ".png")
MANY_C = tuple(float(c) for c in np.logspace(-6, 5, 45))
LARGE = HeadSection.model_validate(
    {
        "lr": [0.003, 0.01, 0.03, 0.1, 0.3],
        "weight_decay": [0.0, 1e-4, 1e-2, 0.1, 1.0],
        "optimizer": ["sgd", "adam"],
        "class_weights": ["none", "balanced"],
    }
)  # 100 heads: the grid of docs/guides/sweeps.md
DRAWS = 2_000  # of the test rows, for the interval

Labels = npt.NDArray[np.int64]
Rows = tuple[npt.NDArray[np.float32], Labels]
Splits = tuple[Features, Features, Features]  # train, val, test


def make_network() -> tuple[torch.nn.Module, Callable[[Any], torch.Tensor]]:
    """Return the network without its classifier, and its own transform."""
    from safetensors.torch import load_file

    timm: Any = importlib.import_module("timm")
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    network.load_state_dict(load_file(WEIGHTS), strict=True)
    network.reset_classifier(0)
    config = timm.data.resolve_model_data_config(network)
    return network.eval(), timm.data.create_transform(**config, is_training=False)


def embed(images: Sequence[Callable[[], Any]], name: str) -> npt.NDArray[np.float32]:
    """Return the embeddings of images, which are opened some at a time, (rows, 1280)."""
    network, transform = make_network()
    x = np.empty((len(images), 1280), np.float32)
    with torch.inference_mode():
        for start in range(0, len(images), 32):
            pixels = torch.stack([transform(opened().convert("RGB")) for opened in images[start : start + 32]])
            x[start : start + len(pixels)] = network(pixels).numpy()
            print(f"{name}: {start + len(pixels)} of {len(images)}", file=sys.stderr, flush=True)
    return x


def embed_folder(root: Path) -> dict[str, Rows]:
    """Return the embeddings and labels of each split of a folder."""
    from PIL import Image

    rows = {}
    for split in sorted(path for path in root.iterdir() if path.is_dir()):
        classes = sorted(path.name for path in split.iterdir())
        files = [
            (path, label)
            for label, name in enumerate(classes)
            for path in sorted((split / name).iterdir())
            if path.suffix.lower() in SUFFIXES
        ]
        x = embed([partial(Image.open, path) for path, _ in files], f"{root.name}/{split.name}")
        rows[split.name] = x, np.array([label for _, label in files], np.int64)
    return rows


def embed_digits() -> dict[str, Rows]:
    """Return the embeddings and labels of scans of digits, 8 x 8 pixels made 224 x 224."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    scans = [Image.fromarray(scan) for scan in np.rint(digits.images[:SCANS] * (255 / 16)).astype(np.uint8)]
    x = embed([partial(scan.resize, (224, 224), Image.Resampling.BICUBIC) for scan in scans], "digits")
    y = digits.target[:SCANS]
    own, held = train_test_split(np.arange(SCANS), test_size=0.4, random_state=99, stratify=y)
    return {"train": (x[own], y[own]), "test": (x[held], y[held])}


def embeddings(kept: Path | None) -> dict[str, dict[str, Rows]]:
    """Return the embeddings of every set that is here; they are kept in a folder, where one is named."""
    found: dict[str, dict[str, Rows]] = {}
    for name in SETS:
        file = None if kept is None else kept / f"{name}.npz"
        if file is not None and file.is_file():
            arrays = np.load(file)
            found[name] = {key[2:]: (arrays[key], arrays[f"y_{key[2:]}"]) for key in arrays if key.startswith("x_")}
        elif not WEIGHTS.is_file() or not (name == "digits" or (SHARED / name).is_dir()):
            print(f"{name}: the images or the weights are not in ../shared/data; left out", file=sys.stderr)
        else:
            found[name] = embed_digits() if name == "digits" else embed_folder(SHARED / name)
            if file is not None:
                pairs = found[name].items()
                parts: dict[str, Any] = {f"{key}_{split}": pair[key == "y"] for split, pair in pairs for key in "xy"}
                np.savez(file, **parts)
    return found


def features(x: npt.NDArray[np.float32], y: Labels, classes: int) -> Features:
    """Rows as `featcache.load` gives them."""
    none = ("",) * len(y)
    return Features(
        np.ascontiguousarray(x), y.astype(np.int64), tuple(f"c{i}" for i in range(classes)), none, none, none
    )


def splits_of(rows: dict[str, Rows], test: str, seed: int) -> Splits:
    """A fifth of train, stratified, is val."""
    x, y = rows["train"]
    own, held = train_test_split(np.arange(len(y)), test_size=0.2, random_state=seed, stratify=y)
    classes = int(y.max()) + 1
    return features(x[own], y[own], classes), features(x[held], y[held], classes), features(*rows[test], classes)


def joined(parts: Sequence[Splits], noise: float, seed: int) -> Splits:
    """Several sets as one, a share of whose labels in train and val are drawn at random."""
    generator, offset, all_x, all_y = np.random.default_rng(seed), 0, [[], [], []], [[], [], []]  # type: ignore[var-annotated]
    for part in parts:
        for number, split in enumerate(part):
            all_x[number].append(split.x)
            all_y[number].append(split.y + offset)
        offset += len(part[0].classes)
    made = []
    for number in range(3):
        x, y = np.concatenate(all_x[number]), np.concatenate(all_y[number])
        if number < 2:
            y = np.where(generator.random(len(y)) < noise, generator.integers(0, offset, len(y)), y)
        made.append(features(x, y, offset))
    return made[0], made[1], made[2]


Chooser = Callable[[Features, Features], tuple[int, Callable[[npt.NDArray[np.float32]], Labels]]]


def train_and_choose(
    configs: Sequence[HeadConfig], train: Features, val: Features
) -> tuple[int, Callable[[npt.NDArray[np.float32]], Labels]]:
    """How many heads there were, and what the best on val predicts."""
    heads = train_heads(train, val, configs)
    best = heads[best_of(heads) or 0]
    return len(heads), lambda x: best.logits(x).argmax(axis=1)


def default(train: Features, val: Features) -> tuple[int, Callable[[npt.NDArray[np.float32]], Labels]]:
    """`featcache fit-head`."""
    section, _ = fill_in_defaults(HeadSection(), len(train.y), has_val=True)
    return train_and_choose(head_configs(section), train, val)


def grid(train: Features, val: Features) -> tuple[int, Callable[[npt.NDArray[np.float32]], Labels]]:
    """A hundred heads."""
    section = LARGE.model_copy(update={"batch_size": default_batch_size(len(train.y))})
    return train_and_choose(head_configs(section), train, val)


def logreg(choices: dict[str, Any]) -> Chooser:
    """`featcache fit logreg`."""

    def choose(train: Features, val: Features) -> tuple[int, Callable[[npt.NDArray[np.float32]], Labels]]:
        options = SearchOptions(device="cpu", jobs=1, progress=lambda *_: None)
        result = search_estimators("logreg", train, val, choices, options, foreign=False)
        return len(result.trials), lambda x: result.classifier.predict(x).predicted

    return choose


METHODS: dict[str, Chooser] = {
    "before": lambda train, val: train_and_choose([HeadConfig()], train, val),
    "default": default,
    "grid": grid,
    "logreg, C = 1": logreg({"C": (1.0,)}),
    "logreg": logreg({}),
    "logreg, 45 C": logreg({"C": MANY_C}),
}


def interval(truth: Labels, predicted: Labels) -> tuple[float, float]:
    """95 % of macro recall, the test rows of each class drawn again."""
    generator = np.random.default_rng(0)
    right = [(predicted == truth)[truth == label] for label in np.unique(truth)]
    recalls = [generator.binomial(len(hits), hits.mean(), DRAWS) / len(hits) for hits in right]
    low, high = np.quantile(np.mean(recalls, axis=0), [0.025, 0.975])
    return float(low), float(high)


def tasks(rows: dict[str, dict[str, Rows]], seed: int) -> Iterator[tuple[str, Splits]]:
    parts = {name: splits_of(rows[name], SETS[name], seed) for name in rows}
    yield from parts.items()
    photographs = [parts[name] for name in PHOTOGRAPHS if name in parts]
    if len(photographs) > 1:
        for noise in NOISE:
            yield f"joined, {noise:.0%} noise", joined(photographs, noise, seed)


def measure(rows: dict[str, dict[str, Rows]], seeds: int, methods: dict[str, Chooser]) -> dict[str, dict[str, Any]]:
    results: dict[str, dict[str, Any]] = {}
    for seed in range(seeds):
        for name, (train, val, test) in tasks(rows, seed):
            of_set = results.setdefault(name, {"rows": [len(split.y) for split in (train, val, test)], "methods": {}})
            for method, choose in methods.items():
                began = time.perf_counter()
                tried, predict = choose(train, val)
                seconds = time.perf_counter() - began
                predicted = predict(test.x)
                recall = macro_recall(confusion_matrix(test.y, predicted, len(test.classes)))
                found = of_set["methods"].setdefault(method, {"tried": tried, "recalls": [], "seconds": []})
                found["recalls"].append(round(float(recall), 4))
                found["seconds"].append(round(seconds, 2))
                if seed == 0:
                    found["interval"] = [round(value, 4) for value in interval(test.y, predicted)]
                print(f"{name}, seed {seed}, {method}: {recall:.3f} ({seconds:.1f} s)", file=sys.stderr, flush=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description="the default beside large searches", allow_abbrev=False)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--embeddings", type=Path, help="a folder that keeps the embeddings from one run to the next")
    parser.add_argument("--only", action="append", choices=list(METHODS), help="may be repeated")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = embeddings(arguments.embeddings)
    if not rows:
        sys.exit("nothing to measure: ../shared/data is not here")
    methods = {name: METHODS[name] for name in arguments.only or METHODS}
    results = measure(rows, arguments.seeds, methods)
    if arguments.json:
        print(json.dumps({"machine": describe(), "seeds": arguments.seeds, "sets": results}, indent=2))
        return
    print(f"{describe()}; macro recall on test in %, median of {arguments.seeds} seeds (least to most)\n")
    for name, of_set in results.items():
        print(f"{name}: {' / '.join(map(str, of_set['rows']))} rows of train, val, test")
        for method, found in of_set["methods"].items():
            recalls = 100 * np.array(found["recalls"])
            low, high = (100 * value for value in found["interval"])
            spread = f"({recalls.min():.1f} to {recalls.max():.1f})"
            seconds = float(np.median(found["seconds"]))
            print(
                f"  {method:14} {np.median(recalls):5.1f} {spread:16} 95 % of seed 0: {low:.1f} to {high:.1f};"
                f" {found['tried']:4} tried, {seconds:6.2f} s"
            )


if __name__ == "__main__":
    main()
