"""Two heads on the same rows, and the average over folds, from the cache to the terminal."""

import io
import json
import shutil

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console

import featcache
from featcache import CacheError, DataError, UsageError
from featcache.evaluation.folds import evaluate_folds
from featcache.evaluation.paired import evaluate_pair
from featcache.report.render_pair import print_folds, print_pair
from featcache.store.listings import ExtractedListing
from tests.builders import fit_head, record_clusters
from tests.report.drives import write_drives, write_folds


@pytest.fixture(scope="module")
def drives(tmp_path_factory):
    """Two heads on drives of 34 classes: one trained long, one hardly."""
    made = write_drives(tmp_path_factory.mktemp("drives"), rows=6000)
    where = {"data": str(made.root), "cache": made.cache}
    options = {"epochs": 8, "batch_size": 64, "device": "cpu", "check_seconds": None}
    heads = [featcache.fit_head(lr, **where, **options).best for lr in (0.1, 1e-3)]
    return where, heads


def drawn(draw, found, width):
    out = io.StringIO()
    draw(found, Console(file=out, width=width, highlight=False, markup=False, emoji=False))
    return out.getvalue()


def test_a_better_head_is_better_beyond_doubt(drives):
    """The differences are those of the two reports; the interval of the difference does not hold 0."""
    where, (good, bad) = drives
    found = evaluate_pair(good.name, bad.name, **where)
    one, other = (featcache.evaluate(head.name, **where) for head in (good, bad))
    assert found.accuracy == pytest.approx(one.accuracy - other.accuracy)
    assert found.macro_recall == pytest.approx(one.macro_recall - other.macro_recall)
    np.testing.assert_allclose(found.recall, one.recall - other.recall)
    assert found.intervals.macro_recall.low > 0
    assert found.intervals.unit == "subject"
    document = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert document["head"] == good.name
    assert document["against"]["head"] == bad.name
    differs = document["against"]["difference"]
    low, high = differs["intervals"]["macro_recall"]
    assert low < differs["macro_recall"] < high
    assert len(differs["classes"]) == 34


def test_a_head_against_itself_differs_by_nothing(drives):
    """Every difference is 0, and so is its interval: the resamples are paired."""
    where, (good, _) = drives
    found = evaluate_pair(good.name, good.name, **where)
    assert (found.accuracy, found.intervals.accuracy.low, found.intervals.accuracy.high) == (0, 0, 0)


@pytest.mark.parametrize("width", [100, 60])
def test_a_comparison_fits_the_terminal(drives, width):
    """In 100 and in 60 columns, without colour in a pipe; a class a line."""
    where, (good, bad) = drives
    text = drawn(print_pair, evaluate_pair(good.name, bad.name, by="clip", **where), width)
    assert max(map(cell_len, text.splitlines())) <= width
    assert all(line.isprintable() for line in text.splitlines())
    assert "by clip (mean probability)" in text
    assert sum("sitting_still" in line for line in text.splitlines()) == 1
    assert "paired difference" in " ".join(text.split())


def test_heads_on_other_rows_are_not_compared(tmp_path):
    """Two trunks whose stores hold other rows of the split: exit class 3, with the command."""
    first = record_clusters(tmp_path, "train", "test")
    one = fit_head(tmp_path, store=first.name).best
    second = record_clusters(tmp_path, "train", "test", weights="cd", asked="b.pth")
    two = fit_head(tmp_path, 0.2, weights="b.pth").best
    assert evaluate_pair(one.name, two.name, data="/data/toy", cache=tmp_path).accuracy is not None
    test = second.listing(("toy", "all", "test"))
    rows = np.arange(len(test.listing) - 1)
    with second.writer() as writer:
        writer.commit(ExtractedListing(test.listing.take(rows), test.digests[rows], test.reasons[:-1]))
    with pytest.raises(CacheError, match="featcache extract --split test"):
        evaluate_pair(one.name, two.name, data="/data/toy", cache=tmp_path)


def test_frame_and_clip_figures_stand_side_by_side(drives):
    """By image with the clips beside it, by clip with the images; Drive&Act's figure is the macro recall of clips."""
    where, _ = drives
    image, clip = featcache.evaluate(**where), featcache.evaluate(by="clip", clip_rule="majority", **where)
    assert (image.by, image.beside.by, clip.by, clip.beside.by) == ("image", "clip", "clip", "image")
    assert (image.rows, clip.rows) == (6000, 150)
    assert clip.unit == "by clip (majority)"
    assert clip.beside.confusion.tolist() == image.confusion.tolist()
    assert clip.macro_recall == pytest.approx(np.nanmean(clip.recall))


def test_by_clip_is_refused_where_there_are_none(tmp_path):
    """A data set without clips, and a word that is no unit or no rule."""
    record_clusters(tmp_path, "train", "test")
    fit_head(tmp_path)
    assert featcache.evaluate(data="/data/toy", cache=tmp_path).beside is None
    with pytest.raises(DataError, match="--by clip"):
        featcache.evaluate(by="clip", data="/data/toy", cache=tmp_path)
    with pytest.raises(UsageError, match="--by: found 'frame'"):
        featcache.evaluate(by="frame", data="/data/toy", cache=tmp_path)
    with pytest.raises(UsageError, match="mean-logit"):
        featcache.evaluate(clip_rule="median", data="/data/toy", cache=tmp_path)


@pytest.fixture(scope="module")
def folds(tmp_path_factory):
    """Three folds of Drive&Act's layout in one store, each with a head of its own."""
    return write_folds(tmp_path_factory.mktemp("folds"))


def test_folds_are_averaged(folds):
    """The mean of three reports, each of its own fold's head on its own rows; the interval lies around it."""
    found = evaluate_folds([0, 1, 2], by="clip", **folds)
    assert len({fold.head for fold in found.folds}) == 3
    assert found.macro_recall == pytest.approx(np.mean([fold.macro_recall for fold in found.folds]))
    assert found.accuracy == pytest.approx(np.mean([fold.accuracy for fold in found.folds]))
    each = np.ma.masked_invalid([fold.recall for fold in found.folds])
    np.testing.assert_allclose(found.recall, each.mean(axis=0).filled(np.nan))
    assert found.intervals.macro_recall.low < found.macro_recall < found.intervals.macro_recall.high
    assert found.intervals.groups == 5
    document = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert [fold["fold"] for fold in document["folds"]] == [0, 1, 2]
    for width in (100, 60):
        text = drawn(print_folds, found, width)
        assert max(map(cell_len, text.splitlines())) <= width
        assert "average" in text


def test_a_fold_without_a_head_is_named_with_the_commands_that_make_it_one(folds, tmp_path):
    """Which folds lack one, which have one, and for each the commands: with extract where its rows are not there."""
    cache = shutil.copytree(folds["cache"], tmp_path / "a cache")
    (lacking,) = cache.glob("stores/*/heads/*/fold2-*")
    shutil.rmtree(lacking)
    where = folds | {"cache": cache}
    with pytest.raises(CacheError) as refused:
        evaluate_folds([0, 1, 2], by="clip", **where)
    first, second = str(refused.value).split("\n")
    assert first.endswith("drives has no head for fold 2 (it has one for fold 0 and fold 1). To make one:")
    typed = f"-p {folds['pipeline']} --data /nowhere --cache '{cache}'"
    assert second == f"  fold 2: run `featcache fit-head {typed} --fold 2`"
    with pytest.raises(CacheError, match=r"fold 0: run `featcache extract .*` and `featcache fit-head "):
        evaluate_folds([0, 1], **(where | {"cache": tmp_path / "none"}))


def test_folds_that_are_none_are_refused(folds, tmp_path):
    """A number twice, a fold that was not extracted, a data set without folds."""
    with pytest.raises(UsageError, match="different numbers"):
        evaluate_folds([0, 0], **folds)
    with pytest.raises(UsageError, match="fold"):
        evaluate_folds([0, 7], **folds)
    with pytest.raises(UsageError, match="no folds"):
        evaluate_folds([0, 1], data="/data/toy", cache=tmp_path)
