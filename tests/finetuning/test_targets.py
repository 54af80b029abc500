"""Fine-tuning on several labels an image, and on numbers: the losses and metrics of the heads of fit-head."""

from pathlib import Path

import numpy as np
import pytest

import featcache
from featcache import UsageError
from tests.conftest import Nano, single_thread
from tests.end_to_end.test_targets import write_data

one_thread = pytest.fixture(autouse=True)(single_thread)
KINDS = {"labels": {"targets": "labels"}, "value": {"targets": "value", "target_columns": ["light"]}}
TRAINING = {"workers": 1, "device": "cpu", "batch_size": 8}


@pytest.fixture(scope="module", params=KINDS)
def where(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, nano: Nano) -> dict[str, str]:
    """The options of a data set whose splits are in the cache, as the library's own forward embeds them."""
    root = tmp_path_factory.mktemp("targets")
    recipe = write_data(root / "data", nano, **KINDS[request.param])
    options = {"pipeline": str(recipe), "cache": str(root / "cache")}
    featcache.extract(settings=featcache.Settings(device="cpu", workers=1, engine="eager"), **options)
    return options


def test_a_head_alone_learns_what_fit_head_learns(where):
    """With all but the head frozen, on the same batches: its weights to 1e-4, and the metrics of its targets."""
    settings = {"lr": 0.01, "epochs": 3, "batch_size": 8, "optimizer": "sgd", "weight_decay": 0.01, "clip_norm": None}
    frozen = featcache.fit_head(**settings, device="cpu", **where).best.head
    fit = featcache.finetune(unfreeze=0, **{**TRAINING, **settings}, **where).fit
    tuned = fit.heads[0].head
    assert np.abs(tuned.weight - frozen.weight).max() < 1e-4 * np.abs(frozen.weight).max()
    assert dict(tuned.val.metrics) == pytest.approx(dict(frozen.val.metrics), abs=1e-3)
    assert len(tuned.targets.thresholds) == len(frozen.targets.thresholds)
    assert [row.val.chief for row in tuned.history] == [frozen.val.chief] * 3


def test_a_start_from_a_head_begins_at_its_own_score(where, tmp_path: Path):
    """Epoch 0 has the head's scores; a training that moves nothing leaves its answers; the report knows the result."""
    head = featcache.fit_head(0.1, epochs=5, batch_size=16, device="cpu", **where).best
    result = featcache.finetune(
        start=f"head {head.name}", lr=1e-12, weight_decay=0.0, epochs=1, patience=1, head_name="tuned",
        **TRAINING, **where,
    )  # fmt: skip
    assert dict(result.at_start.val.metrics) == pytest.approx(dict(head.val.metrics))
    assert dict(result.fit.heads[0].val.metrics) == pytest.approx(dict(head.val.metrics), abs=1e-4)
    pair = featcache.evaluate_target_pair("tuned", head.name, **where)
    assert abs(next(iter(pair.metrics.values()))) < 1e-3


def test_augmented_images_keep_their_targets_and_mixed_ones_share_them(where):
    """Every epoch has a finite loss; the head is found beside the others, though the recipe states other weights."""
    result = featcache.finetune(
        epochs=2, lr=1e-3, augment="flip,mixup", head_name="mixed", **TRAINING, **where
    )  # fmt: skip
    assert all(np.isfinite(row.train.loss) for row in result.fit.heads[0].head.history)
    assert featcache.evaluate_targets("mixed", **where).head == result.fit.heads[0].name


def test_settings_of_classes_are_refused(where):
    """Label smoothing is about one class a row."""
    with pytest.raises(UsageError, match=r"--label-smoothing 0\.1: it is about one class a row"):
        featcache.finetune(label_smoothing=0.1, **TRAINING, **where)
