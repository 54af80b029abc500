"""What views change: of real photographs under a real trunk, and of drawn ones under a seeded trunk."""

from pathlib import Path

import numpy as np
import pytest

import featcache
from featcache import Settings
from tests.conftest import ARCH, SHARED, single_thread

one_thread = pytest.fixture(autouse=True)(single_thread)
LITE0 = SHARED / "weights" / "tf_efficientnet_lite0.safetensors"


def cosines(root: Path, cache: Path, augment: str, trunk: dict[str, str]) -> np.ndarray:
    """Return the cosine of each image's embedding and that of its view."""
    options = {"data": str(root), "cache": str(cache)}
    settings = Settings(device="cpu", workers=1)
    summaries = featcache.extract("val", **options, **trunk, views=1, augment=augment, limit=16, settings=settings)
    plain, view = (featcache.load("val", **options, store=summary.store).x for summary in summaries)
    products = (plain * view).sum(axis=1)
    return products / np.linalg.norm(plain, axis=1) / np.linalg.norm(view, axis=1)


def test_a_mirrored_photograph_is_nearer_to_itself_than_a_crop_of_it(hymenoptera, tmp_path):
    """Under EfficientNet-Lite0: mirrored images stay near, crops move further, and colours on top still further."""
    pytest.importorskip("timm")
    if not LITE0.is_file():
        pytest.skip("../shared/data/weights is not here")
    trunk = {"arch": "timm:tf_efficientnet_lite0", "weights": str(LITE0), "precision": "fp32"}
    mirrored, cropped, coloured = (
        cosines(hymenoptera, tmp_path, augment, trunk) for augment in ("flip=1", "crop", "crop,color=0.8")
    )
    assert mirrored.min() > 0.8
    assert 0 < cropped.mean() < mirrored.mean() - 0.1
    assert coloured.mean() < cropped.mean()


def test_views_move_embeddings_by_their_strength(small, nano, tmp_path):
    """Under a seeded trunk: nothing at `none`, a little by a flip; crops of a tenth move more than crops of half."""
    trunk = {"arch": ARCH, "weights": str(nano.weights), "precision": "fp32"}
    (small / "train").rename(small / "val")
    same, large, any_size = (
        cosines(small, tmp_path, augment, trunk) for augment in ("none", "crop=0.9", "crop=0.1")
    )  # fmt: skip
    np.testing.assert_allclose(same, 1, atol=1e-6)
    assert any_size.mean() < large.mean() < 1
