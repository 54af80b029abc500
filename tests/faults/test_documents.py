"""Any value at any place of a document of a cache: refused with exit 3, or read so that nothing stumbles over it."""

import contextlib
import copy
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import featcache
from featcache.errors import CacheError, FeatcacheError
from featcache.files import StatLog
from featcache.files.sealed import seal_document, seal_line, unseal_document, unseal_line
from featcache.files.stat_log import _unseal
from featcache.heads.saved import kinds, linear, run_log
from featcache.report.page.build import build_page
from featcache.report.page.gallery import Gallery
from featcache.report.page.page import render_html
from featcache.store import check, hdf5, listing_files, listings, split_assignment
from featcache.store.trunk_record import read_trunk
from featcache.trunks import WeightsMemo
from tests.conftest import write_images

# What no writer writes: other types, numbers beyond any bound, names that lead elsewhere, brackets without end.
DEEP = json.loads("[" * 90 + "]" * 90)
values = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5),
    st.sampled_from([10**400, -(10**400), 2**63, -1, 0, float("nan"), float("inf"), 1e308, "", "..", "a/b", "/etc",
                     "a\0b", "a\nb", "x" * 2000, "\udcff", [], {}, [[]], {"": None}, DEEP]),
)  # fmt: skip


@pytest.fixture(scope="module")
def made(nano, tmp_path_factory):
    """A cache with a head that was checked and two other classifiers."""
    here = tmp_path_factory.mktemp("documents")
    images = write_images(here / "digits", {split: {"0": 4, "1": 4} for split in ("train", "val")})
    where = {"data": str(images), "cache": here / "cache"}
    given = {"arch": "vit_nano_16", "weights": str(nano.weights), "precision": "fp32"}
    featcache.extract(None, settings=featcache.Settings(device="cpu", workers=1), **given, **where)
    for kind, choices in (("ridge", {"alpha": 1.0}), ("knn", {"k": 3})):
        featcache.fit(kind, choices, **where)
    featcache.fit_head(0.1, epochs=2, check_seconds=0.5, device="cpu", **where)
    return where


def paths_of(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield above
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths_of(inner, (*above, key))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from paths_of(inner, (*above, place))


def changed(document: dict[str, Any], data: st.DataObject) -> dict[str, Any]:
    """The document with another value at one place, or without it, or with a key that nobody knows."""
    path = data.draw(st.sampled_from([path for path in paths_of(document) if path]))
    found = copy.deepcopy(document)
    inner: Any = found
    for key in path[:-1]:
        inner = inner[key]
    if isinstance(path[-1], str) and data.draw(st.integers(0, 9)) == 0:
        del inner[path[-1]]
    else:
        inner[path[-1]] = copy.deepcopy(data.draw(values))
    return found


@contextlib.contextmanager
def instead(path: Path, content: bytes) -> Iterator[None]:
    whole, mode = path.read_bytes(), path.stat().st_mode
    path.chmod(0o644)
    path.write_bytes(content)
    try:
        yield
    finally:
        path.write_bytes(whole)
        path.chmod(mode)


def use(made: dict[str, Any], name: str | None, data: st.DataObject) -> None:
    """Something that reads a head's document or a run, with what is wrong being a FeatcacheError."""
    store = featcache_store(made)
    asked = (
        lambda: featcache.compare(**made).to_json(),
        lambda: featcache.evaluate(name, **made),
        lambda: featcache.verify(cache=made["cache"]),
        lambda: featcache.info(**made),
        lambda: featcache.repair(cache=made["cache"], dry_run=True),
        lambda: page(made, name),
        lambda: [linear.load_head(folder).versions for folder in (store.root / "heads").glob("*/*/*")],
        lambda: [linear.read_history(folder) for folder in (store.root / "heads").glob("*/*/*")],
    )
    with contextlib.suppress(FeatcacheError):
        data.draw(st.sampled_from(asked))()


def page(made: dict[str, Any], name: str | None) -> str:
    from featcache.dataset.request import DatasetRequest
    from featcache.evaluation.evaluate_head import predict_on_split

    return render_html(build_page(predict_on_split(DatasetRequest(**made), name)), Gallery({}, {}, 0, 0))


def featcache_store(made: dict[str, Any]) -> Any:
    from featcache.store import find_stores

    (store,) = find_stores(made["cache"], StatLog(made["cache"]))
    return store


SLOW = settings(
    max_examples=400 if os.environ.get("FEATCACHE_FAULTS") == "all" else 30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.fault(35)
@pytest.mark.parametrize("kind", ["lr0.1", "ridge", "knn"])
@SLOW
@given(data=st.data())
def test_any_value_in_a_heads_document(made, kind, data, saw):
    """head.json and classifier.json with any value at any place, under a right checksum: refused, or of no harm."""
    saw("a value in head.json or classifier.json, under a right checksum", "refused, passed over, or of no harm")
    folder = next(path for path in made["cache"].rglob(f"{kind}*") if path.is_dir())
    path = next(folder / name for name in kinds.MODEL_DOCUMENTS if (folder / name).exists())
    document = unseal_document(path.read_bytes())
    with instead(path, seal_document(changed(document, data))):
        with contextlib.suppress(CacheError):
            chosen = kinds.load_model(folder, featcache_store(made))
            chosen.predict(featcache.load("val", **made))
        use(made, folder.name, data)


@pytest.mark.fault(35)
@SLOW
@given(data=st.data())
def test_any_value_in_a_line_of_the_runs(made, data, saw):
    """A line of runs.jsonl with any value at any place, under a right checksum: the line is named, or of no harm."""
    saw("a value in a line of runs.jsonl, under a right checksum", "refused, passed over, or of no harm")
    (path,) = made["cache"].rglob(run_log.RUNS)
    *before, last = path.read_bytes().splitlines()
    entry = unseal_line(last)
    with instead(path, b"".join(line + b"\n" for line in before) + seal_line(changed(entry, data))):
        use(made, None, data)


@pytest.mark.fault(35)
@SLOW
@given(data=st.data())
def test_any_value_in_a_trunk(made, data, saw):
    """trunk.json with any value at any place: the store cannot be opened, or is used without a stumble."""
    saw("a value in trunk.json, under a right checksum", "refused, passed over, or of no harm")
    root = featcache_store(made).root
    document = unseal_document((root / "trunk.json").read_bytes())
    with instead(root / "trunk.json", seal_document(changed(document, data))):
        with contextlib.suppress(CacheError):
            read_trunk(root)
        for ask in (lambda: featcache.info(**made), lambda: featcache.verify(cache=made["cache"]),
                    lambda: featcache.load("val", **made)):  # fmt: skip
            with contextlib.suppress(FeatcacheError):
                ask()


@pytest.mark.fault(35)
@SLOW
@given(data=st.data())
def test_any_value_in_the_meta_of_a_listing(made, data, saw):
    """A listing whose meta says anything at any place is a ValueError, or one whose names are names."""
    saw("a value in a listing's meta, under a right checksum", "refused, passed over, or of no harm")
    path = next(made["cache"].rglob("listings/*/*/train-*.h5"))
    arrays = hdf5.parse_file(path.read_bytes(), listing_files._EXPECTED)
    meta = changed(json.loads(arrays["meta"].tobytes()), data)
    arrays["meta"] = np.frombuffer(json.dumps(meta).encode(), dtype=np.uint8)
    try:
        found = listings.decode_listing(hdf5.build_file(arrays)[0])
    except (ValueError, KeyError, TypeError, IndexError):
        return
    assert "/" not in found.listing.data_set + found.listing.variant + found.listing.split
    assert found.listing.support().sum() == len(found.listing)


@pytest.mark.fault(35)
@SLOW
@given(data=st.data())
def test_any_value_in_a_record_of_splits(tmp_path_factory, data, saw):
    """splits.json with any value at any place: exit 3, or names of splits that are names."""
    saw("a value in splits.json, under a right checksum", "refused, passed over, or of no harm")
    cache = tmp_path_factory.getbasetemp()
    document = {"format": 1, "splits": {"train": ["a", "b"], "val": ["c"]}}
    path = cache / "listings" / "x" / "y" / "splits.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(seal_document(changed(document, data)))
    with contextlib.suppress(CacheError):
        assert all("/" not in split for split in split_assignment.read_split_assignment(cache, "x", "y").values())
    check.check_splits(cache)


@pytest.mark.fault(35)
@SLOW
@given(data=st.data())
def test_any_value_in_a_memory(tmp_path_factory, data, saw):
    """A line of stat.log and weights.json with any value at any place: passed over, or right in every type."""
    saw("a value in weights.json or stat.log, under a right checksum", "refused, passed over, or of no harm")
    line = {"path": "/a", "stat": [1, 2, 3, 4], "digest": "ab" * 32, "reason": "", "transform": "00"}
    known = _unseal(seal_line(changed(line, data))[:-1])
    assert known is None or (known.reason or len(known.digest) == 32)
    cache = tmp_path_factory.getbasetemp()
    entry = {"arch": "a", "asked": "b", "stat": [1, 2, 3, 4], "sha256": "ab" * 32}
    document = changed({"format": 1, "weights": [entry, {**entry, "stat": None}]}, data)
    (cache / "weights.json").write_bytes(seal_document(document))
    memo = WeightsMemo(cache)
    assert all(type(word) is str for one in memo.entries() for word in one)
    memo.find("a", "b", None, vouched=True)
    check.check_memories(cache)


@pytest.mark.fault(35)
@pytest.mark.parametrize("depth", [65, 500, 993, 1100, 100_000])
def test_brackets_without_end_are_refused(made, depth):
    """A document that nests deeper than any of ours is damaged, whatever its depth; no recursion gets out."""
    folder = next(path for path in made["cache"].rglob("lr0.1*") if path.is_dir())
    body = b'{"a":' + b"[" * depth + b"]" * depth
    line = body + b',"sum":"' + hashlib.sha256(body).hexdigest()[:16].encode() + b'"}'
    assert unseal_line(line) is None
    with instead(folder / "head.json", body + b"}"), pytest.raises(CacheError, match="damaged"):
        linear.load_head(folder)


def test_a_key_of_a_newer_writer_is_left_out(made):
    """Keys that no schema names make no document unreadable."""
    folder = next(path for path in made["cache"].rglob("lr0.1*") if path.is_dir())
    document = unseal_document((folder / "head.json").read_bytes())
    newer = {**document, "new": {"a": [1]}, "train": {**document["train"], "new": 1}}
    with instead(folder / "head.json", seal_document(newer)):
        assert linear.load_head(folder).name == folder.name


@pytest.mark.parametrize(
    "lacking", [("history_sha256",), ("best_epoch",), ("versions",), ("history_sha256", "best_epoch")]
)
def test_a_head_of_an_earlier_version_opens(made, lacking):
    """Keys that earlier versions did not write may be missing."""
    folder = next(path for path in made["cache"].rglob("lr0.1*") if path.is_dir())
    document = unseal_document((folder / "head.json").read_bytes())
    for key in lacking:
        del document[key]
    with instead(folder / "head.json", seal_document(document)):
        assert linear.load_head(folder).name == folder.name
        assert linear.read_history(folder)["epoch"] == (1.0, 2.0)


@pytest.mark.parametrize("text", [
    "epoch,train_loss\nnan,1\n", "epoch,train_loss\n1e400,1\n", "\0", '"' + "x" * 200_000, "a,b\n1\n", "epoch\n1\n", "",
    "epoch,train_loss,train_accuracy,train_macro_recall,val_loss,val_accuracy,val_macro_recall\nnan,1,1,1,1,1,1\n",
    "epoch,train_loss,train_accuracy,train_macro_recall,val_loss,val_accuracy,val_macro_recall\n1,1e308,1,-1e308,1,1,\n",
])  # fmt: skip
def test_a_history_that_is_none_gives_no_curves(made, text):
    """history.csv of any content, its sha256 put right: the page is drawn, with its curves or without them."""
    folder = next(path for path in made["cache"].rglob("lr0.1*") if path.is_dir())
    document = unseal_document((folder / "head.json").read_bytes())
    digest = hashlib.sha256(text.encode()).hexdigest()
    forged = seal_document({**document, "history_sha256": digest})
    with instead(folder / "head.json", forged), instead(folder / "history.csv", text.encode()):
        assert page(made, folder.name).startswith("<!doctype html>")
