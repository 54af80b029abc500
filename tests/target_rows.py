"""Caches whose rows have several labels, or numbers, without images: what an extract of a table leaves."""

import json
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featcache.listing import RowTargets
from featcache.media import make_views
from tests.builders import digests, extracted, features, listing, new_store
from tests.conftest import Ran

WIDTH = 8
NAMES = ("blue", "red", "round")


def draw_targets(kind: str, rows: int, seed: int, noise: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """Rows (rows, 8) and what is linear in them but for noise: labels of some rows, or numbers of three units."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, WIDTH)).astype(np.float32)
    z = x @ np.random.default_rng(9).standard_normal((WIDTH, 3)) + noise * rng.standard_normal((rows, 3))
    return x, (z > [0, 1, -2]).astype(float) if kind == "labels" else z * [1e-3, 1, 1e4] + [5, -1, 1e5]


def rows_with_targets(kind: str, rows: int = 60, seed: int = 0, split: str = "train", **changes: Any) -> Any:
    """The same as features of one split."""
    x, values = draw_targets(kind, rows, seed)
    return features(x, np.zeros(rows), NAMES, split=split, targets=RowTargets(kind, values), **changes)


def write_target_recipe(folder: Path, kind: str, **data: object) -> Path:
    """The recipe of a table of such rows, which is not there."""
    keys = {"layout": "table", "root": "/data/toy", "table": "t.csv", "targets": kind, **data}
    text = ['name = "toy"', "[data]", *(f"{key} = {json.dumps(value)}" for key, value in keys.items()), ""]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{kind}.toml"
    path.write_text("\n".join(text))
    return path


def record_targets(
    cache: Path, kind: str, splits: Mapping[str, int] | Sequence[str] = ("train", "val", "test"), *,
    variant: str | None = None, values: Mapping[str, np.ndarray] | None = None, seed: int = 0, views: int = 0,
    people: int = 0, **data: object,
) -> dict[str, str]:  # fmt: skip
    """Put splits of 40 rows into a cache, and return the options that name them; `values` replaces a split's own.

    Of `views`, each has the rows of the images, moved a little; with `people`, so many stand in each split.
    """
    sizes = splits if isinstance(splits, Mapping) else dict.fromkeys(splits, 40)
    variant = variant or f"all-{kind}"
    of_views = [None, *make_views("flip,crop", views)] if views else [None]
    for number, view in enumerate(of_views):
        store = new_store(cache, **({} if view is None else {"view": view}))
        with store.writer() as writer:
            for place, (split, rows) in enumerate(sizes.items()):
                x, own = draw_targets(kind, rows, seed + 100 * place)
                moved = x + 0.1 * number * np.random.default_rng(number).standard_normal(x.shape).astype(np.float32)
                names = digests(f"{seed}{split}{row}" for row in range(rows))
                writer.append(names, moved.astype(np.float32))
                targets = RowTargets(kind, own if values is None or split not in values else values[split])
                subjects = tuple(f"{split}{row % people}" if people else "" for row in range(rows))
                writer.commit(
                    extracted(
                        listing(
                            np.zeros(rows), split=split, variant=variant, classes=NAMES, targets=targets,
                            subjects=subjects,
                        ),
                        names,
                    )
                )  # fmt: skip
    return {"pipeline": str(write_target_recipe(cache / "recipes", kind, **data)), "cache": str(cache)}


def type_in_process(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Callable[..., Ran]]:
    """For a fixture: type a featcache command in this process, in an empty folder; its words, and what it answers."""
    from featcache.cli.app import app

    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    monkeypatch.chdir(tmp_path)

    def typed(*words: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["featcache", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            app(args=sys.argv[1:], prog_name="featcache")
        captured = capsys.readouterr()
        return Ran(int(end.value.code or 0), captured.out, captured.err)

    yield typed
    for number, handler in handlers.items():
        signal.signal(number, handler)
