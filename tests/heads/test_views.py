"""Views of heads that are no linear layer, and of features of several stores."""

from pathlib import Path

import pytest

import featcache
from featcache import UsageError
from featcache.media import View
from tests.builders import fit_head, record_layer
from tests.conftest import single_thread

one_thread = pytest.fixture(autouse=True, scope="module")(single_thread)


def saved_tensors(fit: featcache.Fit) -> bytes:
    assert fit.best is not None
    return (fit.best.folder / "head.safetensors").read_bytes()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Two layers of a trunk, and of the first a view that equals the images."""
    record_layer(tmp_path, "cls", 6)
    record_layer(tmp_path, "cls", 6, view=View(number=1, flip=0.5))
    record_layer(tmp_path, "mean", 4)
    return tmp_path


def test_a_perceptron_on_views_that_do_nothing_is_the_one_on_plain_images(cache):
    """Its tensors are the same to the bit; head.json alone says that it was trained on views."""
    options = {"head": "mlp", "hidden": "8", "dropout": 0.0, "layer": "cls"}
    plain, viewed = fit_head(cache, **options), fit_head(cache, **options, views=True)
    assert saved_tensors(plain) == saved_tensors(viewed)
    assert plain.best is not None
    assert viewed.best is not None
    assert "views" not in plain.best.head.config.recorded
    assert viewed.best.head.config.recorded["views"] is True
    assert viewed.best.name.startswith("mlp-lr0.1-")
    assert "views" in viewed.best.sources["train"]


def test_what_takes_no_views_refuses_them(cache):
    """Heads over clips and tokens, and cross-validation; and a set of views is refused where none are drawn."""
    with pytest.raises(UsageError, match="--views has no effect with --head temporal: it is a setting of linear"):
        fit_head(cache, layer="cls", head="temporal", views=True)
    with pytest.raises(UsageError, match="--views has no effect with --head attention: it is a setting of linear"):
        fit_head(cache, layer="cls", head="attention", views=True)
    with pytest.raises(UsageError, match="--cross-validate trains on plain images: leave out --views"):
        featcache.cross_validate(2, 0.1, data="/data/toy", cache=cache, layer="cls", views=True)
    with pytest.raises(UsageError, match="--augment has no effect without --views"):
        fit_head(cache, layer="cls", augment="flip")


def test_features_of_several_stores_have_no_views(cache):
    """In training and at test: one sentence that says of which features, and the way out."""
    with pytest.raises(UsageError, match=r"embeddings of one store, and these are of 2, cls\+mean; leave them out, or"):
        fit_head(cache, features="cls+mean", views=True)
    with pytest.raises(UsageError, match="the tokens of one layer, and these features are of 2: name one with --layer"):
        fit_head(cache, features="cls+mean", head="attention")
    head = fit_head(cache, features="cls+mean").best
    assert head is not None
    options = {"data": "/data/toy", "cache": cache, "features": "cls+mean"}
    with pytest.raises(UsageError, match="--test-views take embeddings of one store"):
        featcache.evaluate(head.name, **options, test_views=True)
    image = cache / "image.png"
    image.write_bytes(b"")
    with pytest.raises(UsageError, match="--test-views take embeddings of one store"):
        featcache.predict(head.name, [image], **options, test_views=True)


def test_features_of_several_layers_are_found_beside_views(cache):
    """The store of a view is none of the layers that --features names."""
    together = featcache.load("train", data="/data/toy", cache=cache, features="cls+mean")
    assert together.x.shape == (30, 10)
