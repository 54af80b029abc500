"""What every saved model can be asked, whichever kind it is."""

import inspect

import pytest

import featcache
from featcache.errors import CacheError
from featcache.heads.saved.classifier import SavedClassifier
from featcache.heads.saved.kinds import load_model
from featcache.heads.saved.linear import SavedHead
from featcache.heads.saved.model import SavedModel
from tests.builders import fit_head, record_clusters

WHERE = {"data": "/data/toy"}


@pytest.fixture
def models(tmp_path):
    """A head, a k-NN and a ridge on the same splits, with the cache that they lie in."""
    store = record_clusters(tmp_path, "train", "val", "test")
    head = fit_head(tmp_path).best
    fitted = [featcache.fit(kind, **WHERE, cache=tmp_path).best for kind in ("knn", "ridge")]
    return tmp_path, [load_model(saved.folder, store) for saved in (head, *fitted)], store


def test_every_kind_has_all_members_of_the_interface():
    """A report asks any model for any of them."""
    members = [name for name in vars(SavedModel) if not name.startswith("_")]
    assert len(members) > 15
    for kind in (SavedHead, SavedClassifier):
        there = {*dir(kind), *inspect.get_annotations(kind)}
        assert set(members) - there == set()


def test_predictions_and_probabilities_agree(models):
    """The label is the class with the largest probability; where there are no probabilities, 1 stands for the label."""
    cache, saved, _ = models
    test = featcache.load("test", **WHERE, cache=cache)
    for model in saved:
        output = model.predict(test)
        shares = model.predict_probabilities(test.x)
        assert (output.probabilities is not None) == model.gives_probabilities
        assert output.predicted.tolist() == shares.argmax(axis=1).tolist()
        assert shares.sum(axis=1) == pytest.approx(1)


def test_features_of_another_trunk_are_refused_in_the_same_words(models):
    """Which trunks they are, and the way out; the width of the embeddings is the same."""
    cache, saved, store = models
    record_clusters(cache, "train", "val", "test", weights="cd")
    other = next(path.name for path in cache.glob("stores/*") if path.name != store.name)
    foreign = featcache.load("test", **WHERE, cache=cache, store=other)
    own, its = store.trunk.spec.fingerprint()[:8], foreign.source["trunk"][:8]
    for model in saved:
        words = f"{model.name} was trained on embeddings of trunk {own}, these are of trunk {its}; name the store"
        with pytest.raises(CacheError, match=words):
            model.predict(foreign)
