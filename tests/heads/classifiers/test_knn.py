"""k-NN against scikit-learn's brute force and against the formula, and that tiles do not show."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from featcache.errors import CacheError, UsageError
from featcache.heads.classifiers import knn
from featcache.heads.classifiers.trials import SearchOptions
from tests.builders import clusters


def test_neighbours_are_scikit_learns():
    """The same rows, most similar first, at the same cosines."""
    train, val = clusters(0, 500), clusters(1, 80)
    near, rows = knn.find_neighbours(train.x, val.x, 20)
    brute = NearestNeighbors(n_neighbors=20, algorithm="brute", metric="cosine").fit(train.x)
    distance, expected = brute.kneighbors(val.x)
    assert np.abs(near - (1 - distance)).max() < 1e-5
    assert np.mean(rows == expected) > 0.99  # equal cosines may stand in another order


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 60), queries=st.integers(1, 12), k=st.integers(1, 40), tile=st.integers(1, 24),
    group=st.sampled_from([1, 2, 4]), block=st.integers(1, 5), seed=st.integers(0, 9),
)  # fmt: skip
def test_tiles_do_not_show(rows, queries, k, tile, group, block, seed):
    """Whatever the tile and the block are, the cosines are those of the whole product, sorted."""
    k = min(k, rows)
    x, q = clusters(seed, rows).x, clusters(seed + 50, queries).x
    unit = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in (q, x)]
    expected = -np.sort(-(unit[0] @ unit[1].T), axis=1)[:, :k]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(knn, "TILE", tile)
        patch.setattr(knn, "QUERIES", block)
        patch.setattr(knn, "GROUP", group)
        near, at = knn.find_neighbours(x, q, k)
    np.testing.assert_allclose(near, expected, atol=1e-5)
    assert all(len(set(one)) == k for one in at.tolist())
    np.testing.assert_allclose(np.take_along_axis(unit[0] @ unit[1].T, at, 1), near, atol=1e-5)


def test_votes_are_weighted_by_temperature():
    """p(c) is the sum of exp(cosine / T) over the neighbours of class c, over that of all; written out."""
    train, val = clusters(2, 90), clusters(3, 25)
    found = knn.Knn(train.x, train.y, 3, k=7, temperature=0.3, weights="temperature").predict(val.x)
    doubles = [x.astype(np.float64) for x in (val.x, train.x)]
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in doubles]
    cosines = unit[0] @ unit[1].T
    for row, of_row in enumerate(cosines):
        nearest = np.argsort(-of_row)[:7]
        votes = np.zeros(3)
        for neighbour in nearest:
            votes[train.y[neighbour]] += np.exp(of_row[neighbour] / 0.3)
        np.testing.assert_allclose(found.probabilities[row], votes / votes.sum(), atol=1e-5)
        assert found.predicted[row] == votes.argmax()


def test_uniform_votes_are_scikit_learns():
    """With weights=uniform, probabilities and predictions are KNeighborsClassifier's."""
    train, val = clusters(4, 200), clusters(5, 60)
    found = knn.Knn(train.x, train.y, 3, k=5, temperature=0.07, weights="uniform").predict(val.x)
    theirs = KNeighborsClassifier(n_neighbors=5, metric="cosine", algorithm="brute").fit(train.x, train.y)
    np.testing.assert_allclose(found.probabilities, theirs.predict_proba(val.x), atol=1e-6)
    assert found.predicted.tolist() == theirs.predict(val.x).tolist()


def test_a_small_temperature_overflows_nothing():
    """exp(1 / 0.001) is no float; the votes are, and the nearest neighbour decides."""
    train, val = clusters(6), clusters(7, 20)
    cold = knn.Knn(train.x, train.y, 3, k=5, temperature=0.001, weights="temperature").predict(val.x)
    _, rows = knn.find_neighbours(train.x, val.x, 1)
    assert np.isfinite(cold.probabilities).all()
    assert cold.predicted.tolist() == train.y[rows[:, 0]].tolist()


def test_every_k_of_a_search_is_that_k_alone():
    """Many k and temperatures from one pass score as each of them asked alone; the best on val is chosen."""
    train, val = clusters(8, 150), clusters(9, 70)
    found = knn.search_knn(train, val, {"k": (1, 5, 40), "temperature": (0.07, 1.0)}, SearchOptions())
    assert [trial.settings["k"] for trial in found.trials] == [1, 1, 5, 5, 40, 40]
    for trial in found.trials:
        alone = knn.search_knn(train, val, {key: (value,) for key, value in trial.settings.items()}, SearchOptions())
        assert alone.trials[0].val == trial.val
    assert found.trials[found.best].val.macro_recall == max(trial.val.macro_recall for trial in found.trials)
    answer = found.classifier.predict(val.x)
    assert answer.predicted.tolist() == found.on_val.predicted.tolist()


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"k": (0,)}, "k is 0"), ({"k": (61,)}, "1 to 60"), ({"k": (2.5,)}, "2.5"), ({"k": (True,)}, "True"),
        ({"temperature": (0,)}, "temperature"), ({"temperature": (float("nan"),)}, "nan"),
        ({"weights": ("distance",)}, "uniform"), ({"neighbours": (3,)}, "it has k, temperature, weights"),
    ],
)  # fmt: skip
def test_a_setting_out_of_range_is_named(choices, words):
    """What was found and what is expected, exit code 2."""
    with pytest.raises(UsageError, match=words):
        knn.search_knn(clusters(0), None, choices, SearchOptions())


def test_without_val_nothing_chooses():
    """One k is k-NN; several are an error that says what to extract. Few rows have a k that fits them."""
    assert knn.search_knn(clusters(0), None, {}, SearchOptions()).classifier.k == 20
    assert knn.search_knn(clusters(0, 7), None, {}, SearchOptions()).classifier.k == 7
    with pytest.raises(CacheError, match="featcache extract --split val"):
        knn.search_knn(clusters(0), None, {"k": (1, 2)}, SearchOptions())
