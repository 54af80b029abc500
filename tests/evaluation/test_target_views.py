"""Labels and numbers over the views of an image: trained on them, and averaged over them."""

import numpy as np
import pytest

import featcache
from featcache import CacheError, UsageError
from featcache.dataset import DatasetRequest
from featcache.features import find_views, read_views
from featcache.heads import answers_of
from tests.conftest import single_thread
from tests.target_rows import record_targets

one_thread = pytest.fixture(autouse=True)(single_thread)


@pytest.mark.parametrize("kind", ["labels", "value"])
def test_answers_are_the_mean_over_an_image_and_its_views(kind, tmp_path):
    """Of labels the mean of probabilities, of numbers that of numbers, by a head that learnt from the views."""
    where = record_targets(tmp_path, kind, views=2)
    best = featcache.fit_head(0.1, epochs=5, batch_size=16, views=True, device="cpu", **where).best
    plain = featcache.evaluate_targets(best.name, **where)
    averaged = featcache.evaluate_targets(best.name, test_views=True, **where)
    test, request = featcache.load("test", **where), DatasetRequest(**where)
    store = request.store_of("test")
    views = find_views(request, store, request.key_of(store, "test"))
    rows = [test.x, *read_views(request, test, views)]
    temperature = plain.temperature.value if plain.temperature is not None else None
    outputs = [best.predict_targets(x, as_answers=False) / (temperature or 1) for x in rows]
    np.testing.assert_allclose(
        averaged.predictions.answers, np.mean([answers_of(kind, z) for z in outputs], axis=0), rtol=1e-6
    )
    assert (averaged.predictions.answers != plain.predictions.answers).any()
    assert any("are the mean over each image and its 2 views of flip,crop" in note for note in averaged.notes)
    pair = featcache.evaluate_target_pair(best.name, best.name, test_views=True, **where)
    assert pair.second.metrics == plain.metrics


def test_views_that_are_not_there_are_one_sentence(tmp_path):
    """With the command that makes them; and --augment alone names nothing."""
    where = record_targets(tmp_path, "labels")
    featcache.fit_head(0.1, epochs=1, batch_size=16, device="cpu", **where)
    with pytest.raises(CacheError, match="no views of toy/all-labels/test are in this cache; run `featcache extract"):
        featcache.evaluate_targets(test_views=True, **where)
    with pytest.raises(UsageError, match="--augment has no effect without --test-views"):
        featcache.evaluate_targets(augment="flip", **where)
