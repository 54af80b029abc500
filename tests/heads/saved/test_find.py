"""Which head is meant by no name, "best" and "latest": one rule, which compare shows."""

import json
import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import featcache
from featcache.dataset.request import DatasetRequest
from featcache.errors import CacheError, UsageError
from featcache.heads.linear import LinearHead, Scores, best_of
from featcache.heads.saved import linear, run_log
from featcache.heads.saved.find import find_head
from featcache.heads.saved.ranking import merit_key
from tests.builders import CLASSES, fit_head, record_clusters, scored_head

WHERE = {"data": "/data/toy"}


def made(cache, *heads: LinearHead, best: int | None = 0) -> list[str]:
    """One run that made these heads; their names."""
    store = DatasetRequest(**WHERE, cache=cache).stores()[0]
    train = featcache.load("train", **WHERE, cache=cache)
    kept = [linear.save_head(store, head, train, None if head.val is None else train) for head in heads]
    run_log.record_run(store, train, kept, best=None if best is None else kept[best].name, seconds=1.0)
    return [head.name for head in kept]


def which(cache, head=None):
    return find_head(DatasetRequest(**WHERE, cache=cache), head)


HEADS = st.lists(
    st.tuples(st.one_of(st.none(), st.sampled_from([0.1, 0.5, 0.5, 0.9, math.nan])), st.booleans(), st.integers(0, 3)),
    min_size=1, max_size=8,
)  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from([0.2, 0.4]), st.sampled_from([0.5, 1.5, math.nan])), min_size=2, max_size=6))
def test_the_best_of_one_run_is_the_one_that_the_run_chose(scores):
    """Of equals in macro recall, best and fit-head both take the lower loss, then the first."""
    heads = [replace(scored_head(1 + place, 0.0), val=Scores(0.5, *pair)) for place, pair in enumerate(scores)]
    chosen = best_of(heads)
    ranks = [merit_key(head.val, diverged=False, at=7, is_best=place == chosen) for place, head in enumerate(heads)]
    if chosen is not None and all(math.isfinite(loss) for _, loss in scores):
        assert min(range(len(heads)), key=ranks.__getitem__) == chosen


@given(HEADS)
def test_rank_is_by_macro_recall_then_the_newest(heads):
    """What diverged is last, what has no score on val before it; of the others the higher score, then the newest."""
    ranks = [
        merit_key(None if macro is None else Scores(1.0, macro, 0.0), diverged=bad, at=at, is_best=True)
        for macro, bad, at in heads
    ]
    first = heads[min(range(len(heads)), key=ranks.__getitem__)]
    sound = [head for head in heads if not head[1]]
    scored = [head for head in sound if head[0] is not None and not math.isnan(head[0])]
    if scored:
        assert first[:2] == (max(macro for macro, _, _ in scored), False)
        assert first[2] == max(at for macro, _, at in scored if macro == first[0])
    elif sound:
        assert (first[1], first[2]) == (False, max(at for _, _, at in sound))


def test_best_is_what_compare_shows_first_whatever_the_runs(tmp_path):
    """Over all runs, ties to the newest, without val and diverged heads last; in compare, evaluate and by no name."""
    rng = np.random.default_rng(0)
    record_clusters(tmp_path, "train", "val")
    for number in range(12):
        heads = [
            scored_head(
                1 + number + place / 10,
                None if rng.random() < 0.2 else rng.choice([0.2, 0.4, 0.6]),
                diverged=bool(rng.random() < 0.3),
            )
            for place in range(rng.integers(1, 4))
        ]
        made(tmp_path, *heads, best=None if all(head.diverged for head in heads) else 0)
        if not any(not head.diverged for head in heads) and number == 0:
            continue
        first = featcache.compare(**WHERE, cache=tmp_path).heads[0]
        for word in (None, "best"):
            assert which(tmp_path, word).folder.name == first.name
            assert featcache.evaluate(word, **WHERE, cache=tmp_path).head == first.name


def test_the_word_says_who_was_chosen_and_from_how_many(tmp_path):
    """The sentence has the head, how many were compared, its score, and the newest run's best where that is another."""
    record_clusters(tmp_path, "train", "val")
    (only,) = made(tmp_path, scored_head(1, 0.5))
    assert which(tmp_path).reason == f"head #1 {only}: the only one with a score on val (macro recall 50.0 %)"
    (better,) = made(tmp_path, scored_head(2, 0.75))
    assert which(tmp_path).reason == f"head #2 {better}: the best of 2 on val (macro recall 75.0 %)"
    (newest,) = made(tmp_path, scored_head(3, 0.25))
    assert which(tmp_path).reason == (
        f"head #2 {better}: the best of 3 on val (macro recall 75.0 %); `latest` is #3 {newest}, the "
        f"best of the newest run"
    )
    assert which(tmp_path, "latest").reason == (
        f"head #3 {newest}: the best of the newest run; `best` is #2 {better}, the best of 3 on val (macro recall "
        f"75.0 %)"
    )
    assert which(tmp_path, newest).reason == ""
    assert which(tmp_path, newest).sentence == f"head #3 {newest}"


def test_without_a_score_on_val_the_newest_runs_best_is_meant(tmp_path):
    """Train scores choose nothing."""
    record_clusters(tmp_path, "train", "test")
    made(tmp_path, scored_head(1, None))
    (newest,) = made(tmp_path, scored_head(2, None))
    assert which(tmp_path).folder.name == newest
    assert "since no head has a score on val" in which(tmp_path).reason
    made(tmp_path, scored_head(3, 0.1))  # one that has
    assert which(tmp_path).folder.name.startswith("lr3")
    assert featcache.compare(**WHERE, cache=tmp_path).heads[0].name.startswith("lr3")


def test_a_head_that_diverged_is_never_best(tmp_path):
    """However good its recorded score; where all diverged, that is the error."""
    record_clusters(tmp_path, "train", "val")
    made(tmp_path, scored_head(1, 0.9, diverged=True), best=None)
    with pytest.raises(CacheError, match="all of them diverged"):
        which(tmp_path)
    made(tmp_path, scored_head(2, 0.1))
    assert which(tmp_path).folder.name.startswith("lr2")


def test_a_head_without_its_folder_is_passed_over_and_named(tmp_path):
    """Of `best`, as of compare: the next one serves, and a note says what was left out and why."""
    record_clusters(tmp_path, "train", "val")
    (gone,) = made(tmp_path, scored_head(1, 0.9))
    (left,) = made(tmp_path, scored_head(2, 0.1))
    for file in which(tmp_path, gone).folder.iterdir():
        file.unlink()
    found = which(tmp_path)
    assert found.folder.name == left
    assert any(gone in note for note in found.notes)
    assert any(gone in note for note in featcache.evaluate(split="val", **WHERE, cache=tmp_path).notes)


def test_a_best_head_that_does_not_fit_is_refused_with_the_next(tmp_path):
    """Where the data set has other classes now, the error says how the head was chosen and which one is next."""
    record_clusters(tmp_path, "train", "val")
    made(tmp_path, scored_head(1, 0.9), scored_head(2, 0.8))
    record_clusters(tmp_path, "test", classes=(*CLASSES, "dog"))
    with pytest.raises(CacheError, match=r"knows 3 classes.*the best of 2 on val.*the next on val is #2 lr2-"):
        featcache.evaluate(**WHERE, cache=tmp_path)
    with pytest.raises(CacheError) as refused:
        featcache.evaluate("lr1", **WHERE, cache=tmp_path)
    assert "next" not in str(refused.value)


def test_the_rule_serves_classifiers_and_the_model_file(tmp_path):
    """A k-NN that is best on val answers for the word; export-model, which cannot take it, names the next."""
    record_clusters(tmp_path, "train", "val")
    made(tmp_path, scored_head(1, 0.0))
    knn = featcache.fit("knn", {"k": 3}, **WHERE, cache=tmp_path).best
    assert which(tmp_path).folder.name == knn.name
    with pytest.raises(UsageError, match=r"is the last part of a network.*the best head that can be exported is lr1-"):
        featcache.export_model("best", tmp_path / "model.pt", **WHERE, cache=tmp_path)


def test_the_check_of_a_head_outlives_a_run_without_one(tmp_path):
    """A check belongs to the settings and the sources: the same head trained again with --no-check keeps it."""
    record_clusters(tmp_path, "train", "val")
    checked = fit_head(tmp_path, 0.1, check_seconds=5)
    fit_head(tmp_path, 0.1)
    assert which(tmp_path).check["gap_share"] == pytest.approx(checked.check.gap_share)
    line = featcache.compare(**WHERE, cache=tmp_path).heads[0]
    assert line.gap == pytest.approx(checked.check.gap_share)
    other = replace(checked.best.head.config, epochs=4)
    fit_head(tmp_path, other.lr, epochs=4)
    assert which(tmp_path, "latest").check is None  # another head


def test_finding_the_best_imports_no_torch(tmp_path):
    """Nor loads a model: a head is chosen by what its folder says."""
    record_clusters(tmp_path, "train", "val")
    made(tmp_path, scored_head(1, 0.5))
    featcache.fit("logreg", **WHERE, cache=tmp_path)
    code = (
        "import json, sys\nfrom featcache.dataset import DatasetRequest\nfrom featcache.heads.saved import find_head\n"
        f"find_head(DatasetRequest(data='/data/toy', cache={str(tmp_path)!r}), 'best')\n"
        "print(json.dumps([name for name in ('torch', 'sklearn', 'skops') if name in sys.modules]))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(ran.stdout) == []


def test_scores_on_another_val_are_told_from_those_on_the_val_of_now(tmp_path):
    """After val was extracted anew with other labels, compare and `best` name the heads scored on the old one."""
    record_clusters(tmp_path, "train", "val")
    old = fit_head(tmp_path).best.name
    assert featcache.compare(**WHERE, cache=tmp_path).notes == which(tmp_path).notes == ()
    record_clusters(tmp_path, "val", classes=("ant", "bee", "dog"))
    record_clusters(tmp_path, "train", classes=("ant", "bee", "dog"))
    new = fit_head(tmp_path).best.name
    (note,) = featcache.compare(**WHERE, cache=tmp_path).notes
    assert old in note
    assert new not in note
    assert "--split val" in note
    assert note in which(tmp_path).notes
    assert featcache.compare(**WHERE, cache=tmp_path, split="val").notes != (note,)
