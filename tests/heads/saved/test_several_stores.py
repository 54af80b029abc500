"""Heads on several stores side by side: where they are kept, what they record, and who finds them."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import featcache
from featcache import CacheError
from featcache.files.sealed import seal_document, unseal_document
from featcache.heads.linear import unit_rows
from featcache.heads.saved.kinds import load_model
from featcache.heads.saved.linear import load_head
from featcache.store.catalog import open_store
from tests.builders import StatLog, fit_head, record_layer

WHERE = {"data": "/data/toy"}


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache with two layers of one trunk, train and val."""
    record_layer(tmp_path, "cls", 6)
    record_layer(tmp_path, "mean", 4)
    return tmp_path


def names(cache: Path, **options) -> dict[str, str]:
    """The features of each head of `compare`, by its number."""
    return {head.number: head.features for head in featcache.compare(cache=cache, **WHERE, **options).heads}


def test_a_head_records_its_stores_in_their_order(cache):
    """Fingerprints, names and widths, as they stand in the columns; features.json has the same."""
    head = fit_head(cache, features="mean+cls").best
    assert head is not None
    root = head.folder.parents[3]
    parts = json.loads((root / "features.json").read_text())["parts"]
    assert [(part["layer"], part["width"]) for part in parts] == [("mean", 4), ("cls", 6)]
    for source in json.loads((head.folder / "head.json").read_text())["sources"].values():
        assert source["trunk"] == "+".join(part["trunk"] for part in parts)
        assert source["stores"] == "+".join(part["store"] for part in parts)
        assert (source["features"], source["widths"], source["store"]) == ("mean+cls", "4+6", root.name)
    assert load_head(head.folder).head.widths == (4, 6)


def test_a_head_of_one_store_is_written_as_before(cache):
    """A single layer named by --features gives the folder, and the bytes, of --layer; no key is added."""
    head = fit_head(cache, layer="cls").best
    assert head is not None
    before = {path.name: path.read_bytes() for path in head.folder.iterdir()}
    again = fit_head(cache, features="cls").best
    assert again is not None
    assert again.folder == head.folder
    assert {path.name: path.read_bytes() for path in again.folder.iterdir()} == before
    sources = json.loads(before["head.json"])["sources"]
    assert sorted(sources["train"]) == ["data_set", "listing", "root", "store", "trunk", "variant", "weights"]
    assert not list((cache / "stores").glob("features-*"))


def test_every_command_finds_it_by_number_name_and_merit(cache):
    """Numbers run over all stores; `best` may be a head on several; a filter keeps what all of its stores meet."""
    fit_head(cache, layer="cls")
    fit_head(cache, features="cls+mean", head_name="both")
    fit_head(cache, layer="mean")
    assert names(cache) == {1: "cls", 2: "cls+mean", 3: "mean"}
    assert names(cache, features="cls+mean") == {2: "cls+mean"}
    assert names(cache, layer="cls") == {1: "cls"}
    assert names(cache, arch="vit_nano_16") == {1: "cls", 2: "cls+mean", 3: "mean"}
    for word in ("2", "both", "#2"):
        assert featcache.evaluate(word, split="val", cache=cache, **WHERE).handle.startswith("#2 both")
    best = featcache.compare(cache=cache, **WHERE).heads[0]
    assert featcache.evaluate(split="val", cache=cache, **WHERE).head == best.name


def test_compare_scores_each_head_on_its_own_features(cache):
    """On a split that is named, a head on several stores gets their columns, and the scores that it was made with."""
    fit_head(cache, features="cls+mean")
    fit_head(cache, layer="cls")
    made = {head.name: head.scores for head in featcache.compare(cache=cache, **WHERE).heads}
    now = {head.name: head.scores for head in featcache.compare(split="val", cache=cache, **WHERE).heads}
    assert len(now) == 2
    for name, scores in now.items():
        assert (scores.accuracy, scores.macro_recall) == (made[name].accuracy, made[name].macro_recall)
        assert scores.loss == pytest.approx(made[name].loss)


@pytest.mark.parametrize("classifier", ["knn", "ridge"])
def test_other_classifiers_are_kept_and_read_again(cache, classifier):
    """k-NN finds its rows in all stores by digest; each answers as it did when it was fitted."""
    fitted = featcache.fit(classifier, cache=cache, features="cls+mean", **WHERE)
    output = load_model(fitted.best.folder, open_store(fitted.best.folder.parents[3], StatLog(cache)))
    x = featcache.load("val", cache=cache, features="cls+mean", **WHERE).x
    assert fitted.best.classifier is not None
    expected = fitted.best.classifier.predict(x)
    assert (output.predict_probabilities(x).argmax(axis=1) == expected.predicted).all()
    document = json.loads((fitted.best.folder / "classifier.json").read_text())
    assert ([spec["layer"] for spec in document["trunks"][1:]], "trunk" in document) == (["mean"], False)


def test_length_one_is_for_each_part_in_training_and_after(cache):
    """--normalize l2 scales each part by itself: logits of a loaded head follow from unit parts side by side."""
    head = fit_head(cache, features="cls+mean", normalize="l2").best
    assert head is not None
    x = featcache.load("val", cache=cache, features="cls+mean", **WHERE).x
    parts = np.concatenate([unit_rows(x[:, :6]), unit_rows(x[:, 6:])], axis=1)
    assert unit_rows(x, (6, 4)).tobytes() == parts.tobytes()
    loaded = load_head(head.folder).head
    assert np.allclose(loaded.logits(x), parts @ loaded.weight.T + loaded.bias, atol=1e-6)
    streamed = fit_head(cache, features="cls+mean", normalize="l2", from_disk=True).best
    assert streamed is not None
    assert streamed.head.widths == (6, 4)


def test_a_store_that_is_gone_is_named_by_verify_and_stops_nobody_else(cache):
    """Heads that need it are left out of compare; verify says which store; heads of other stores stay usable."""
    fit_head(cache, features="cls+mean")
    fit_head(cache, layer="cls")
    (mean,) = (cache / "stores").glob("vit*-mean-*")
    shutil.move(mean, cache / "aside")
    assert names(cache) == {2: "cls"}
    (problem,) = featcache.verify(cache=cache)
    assert (problem.kind, mean.name in problem.message) == ("features", True)
    assert list(featcache.info(cache=cache, **WHERE)["damaged"]) == [Path(problem.where).parent.name]
    shutil.move(cache / "aside", mean)
    assert featcache.verify(cache=cache) == []
    assert names(cache) == {1: "cls+mean", 2: "cls"}


def test_gc_leaves_what_such_heads_need(cache):
    """Merging shards of their stores changes no prediction, and the folder of the heads is left alone."""
    fit_head(cache, features="cls+mean")
    featcache.fit("knn", cache=cache, features="cls+mean", **WHERE)
    before = featcache.compare(split="val", cache=cache, **WHERE).heads
    assert len(featcache.gc(cache=cache, apply=True)) == 2
    after = featcache.compare(split="val", cache=cache, **WHERE).heads
    assert [head.scores for head in after] == [head.scores for head in before]
    assert featcache.verify(cache=cache) == []


@pytest.mark.parametrize("damage", ["gone", "torn", "other"])
def test_a_damaged_record_is_found_and_written_again(cache, damage):
    """Verify names features.json; repair writes it anew from the heads beside it, with the bytes that it had."""
    fit_head(cache, features="cls+mean")
    (path,) = (cache / "stores").glob("features-*/features.json")
    whole = path.read_bytes()
    path.chmod(0o644)
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(whole[:-9] if damage == "torn" else whole.replace(b'"cls"', b'"clt"'))
    assert [problem.kind for problem in featcache.verify(cache=cache)] == ["features"]
    assert [action.kind for action in featcache.repair(cache=cache, dry_run=True).actions] == ["features"]
    assert [action.kind for action in featcache.repair(cache=cache).actions] == ["features"]
    assert path.read_bytes() == whole
    assert names(cache) == {1: "cls+mean"}


def test_a_folder_of_another_set_of_stores_is_refused(cache):
    """features.json belongs to the folder that is named by its stores."""
    fit_head(cache, features="cls+mean")
    (root,) = (cache / "stores").glob("features-*")
    root.rename(root.with_name("features-cls_mean-00000000"))
    (problem,) = featcache.verify(cache=cache)
    assert "names stores other than those that its folder is named by" in problem.message


def test_the_folder_is_named_by_a_hash_over_the_fingerprints(cache):
    """Another order is another folder: the columns stand elsewhere."""
    for features in ("cls+mean", "mean+cls"):
        fit_head(cache, features=features)
    folders = sorted(path.name for path in (cache / "stores").glob("features-*"))
    assert len(folders) == 2
    for folder in folders:
        parts = json.loads((cache / "stores" / folder / "features.json").read_text())["parts"]
        joined = "+".join(part["trunk"] for part in parts)
        assert folder.endswith(hashlib.sha256(joined.encode()).hexdigest()[:8])


def test_a_head_does_not_take_other_features(cache):
    """Evaluated on features in another order, it is refused: what is asked for and what it was trained on is said."""
    fit_head(cache, features="cls+mean")
    with pytest.raises(CacheError, match="no head of toy in this cache"):
        featcache.evaluate("1", split="val", cache=cache, features="mean+cls", **WHERE)


@pytest.mark.parametrize("widths", ["6+x", "-1+11", "6+5", "10+", "0+10"])
def test_widths_that_do_not_fit_the_weights_are_refused(cache, widths):
    """Under a right checksum, too: a head whose parts are no widths, or others than its columns, is not read."""
    head = fit_head(cache, features="cls+mean").best
    assert head is not None
    path = head.folder / "head.json"
    document = unseal_document(path.read_bytes())
    assert document is not None
    document["sources"]["train"]["widths"] = widths
    path.chmod(0o644)
    path.write_bytes(seal_document(document))
    with pytest.raises(CacheError, match=r"cannot be read by this version|parts of 11 columns for weights of 10"):
        load_head(head.folder)
