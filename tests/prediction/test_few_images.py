"""A few images are embedded in a small forward, with the same answer."""

import numpy as np

import featcache
from featcache.prediction.model import open_head
from featcache.trunks import choose_batch_size


def test_a_cpu_embeds_a_few_images_in_a_forward_of_eight():
    """Up to eight images make a batch of eight on a CPU; more, or another device, that device's own."""
    assert [choose_batch_size("cpu", images) for images in (1, 8, 9)] == [8, 8, 32]
    assert choose_batch_size("cuda:0", 1) == choose_batch_size("cuda", 1000)


def test_few_images_get_the_probabilities_that_they_get_among_many(made):
    """What is predicted for an image does not depend on how many others are named."""
    images = made.images("test")
    alone, among = (featcache.predict(made.head, named, **made.where) for named in (images[:2], images))
    assert (alone.embedded, among.embedded) == (2, 24)
    np.testing.assert_allclose(alone.probabilities, among.probabilities[:2], rtol=1e-5)


def test_a_batch_size_that_was_given_holds(made):
    """Neither few images nor many change a batch size that was given."""
    assert open_head(made.head, batch_size=3, **made.where).only_trunk.trunk.batch_size == 3
