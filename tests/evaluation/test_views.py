"""Heads on views, from pictures to figures: training, the check, averages at test, and predictions on new images."""

import re
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import featcache
from featcache import CacheError, Settings, UsageError
from featcache.features import stack_views
from featcache.metrics import apply_temperature, conformal_threshold, softmax
from tests.conftest import ARCH, single_thread, write_images

one_thread = pytest.fixture(autouse=True, scope="module")(single_thread)
COUNTS = {"train": {"0": 12, "1": 12, "2": 12}, "val": {"0": 4, "1": 4, "2": 4}}
TRAINING = {"epochs": 6, "batch_size": 16, "device": "cpu"}


@pytest.fixture(scope="module")
def trunk(nano) -> dict[str, str]:
    return {"arch": ARCH, "weights": str(nano.weights), "precision": "fp32"}


@pytest.fixture(scope="module")
def extracted(trunk, tmp_path_factory) -> dict[str, str]:
    """A data set with two views of each image, which no test changes; the options that name it."""
    here = tmp_path_factory.mktemp("views")
    options = {"data": str(write_images(here / "digits", COUNTS)), "cache": str(here / "cache")}
    settings = Settings(device="cpu", workers=1)
    featcache.extract(**options, **trunk, views=2, augment="flip=1,crop=0.3,color", settings=settings)
    featcache.extract(**options, **trunk, views=1, augment="none", settings=settings)
    return options


NAMED = "flip=1,crop=0.3,color"


def saved_weights(fit: featcache.Fit) -> bytes:
    return (fit.best.folder / "head.safetensors").read_bytes()


def test_a_head_on_views_that_do_nothing_is_the_head_on_plain_images(extracted):
    """With one view by `--augment none`, weights and scores are those of a training without views, bit by bit."""
    plain = featcache.fit_head(0.05, **extracted, **TRAINING)
    viewed = featcache.fit_head(0.05, **extracted, **TRAINING, views=True, augment="none")
    assert saved_weights(viewed) == saved_weights(plain)
    assert (viewed.best.head.train, viewed.best.head.val) == (plain.best.head.train, plain.best.head.val)
    assert viewed.best.name != plain.best.name
    assert viewed.check.head_objective == plain.check.head_objective
    averaged = featcache.evaluate(viewed.best.name, **extracted, test_views=True)
    assert averaged.confusion.tolist() == featcache.evaluate(plain.best.name, **extracted).confusion.tolist()


def test_a_head_on_views_is_the_same_twice_and_beside_others(extracted):
    """The views are drawn by the seed; a grid with and without views gives each head that it gives alone."""
    options = {**extracted, **TRAINING, "check_seconds": None, "augment": NAMED}
    first, again = (featcache.fit_head(0.05, **options, views=True) for _ in range(2))
    assert saved_weights(first) == saved_weights(again)
    other = featcache.fit_head(0.05, **options, views=True, seed=1)
    assert saved_weights(other) != saved_weights(first)
    plain = featcache.fit_head(0.05, **extracted, **TRAINING, check_seconds=None)
    both = featcache.fit_head(0.05, **options, views=[False, True])
    assert [saved.name for saved in both.heads] == [plain.best.name, first.best.name]
    sources = [saved.sources["train"] for saved in both.heads]
    assert sources[0].keys() | {"views", "augment"} == sources[1].keys()
    assert (sources[1]["augment"], sources[1]["views"].count(",")) == (NAMED, 1)
    assert "one of 2 views" in " ".join(first.notes)


def test_the_check_is_of_the_mean_over_all_views(extracted):
    """The objective of a head on views is its mean loss over every view of each image, and the optimum that of it."""
    fit = featcache.fit_head(0.05, **extracted, **TRAINING, views=True, augment=NAMED, check_seconds=20)
    stores = {store["view"]: store["name"] for store in featcache.info(**extracted)["stores"]}
    plain = featcache.load("train", **extracted)
    x = np.concatenate([
        featcache.load("train", **extracted, store=stores[f"view {number} of {NAMED}"]).x for number in (1, 2)
    ])  # fmt: skip
    loss = -np.log(softmax(fit.best.head.logits(x).astype(np.float64))[np.arange(len(x)), np.tile(plain.y, 2)]).mean()
    decay = 1e-6 / 2 * np.square(fit.best.head.weight.astype(np.float64)).sum()
    assert fit.check.head_objective == pytest.approx(loss + decay, rel=1e-6)
    assert fit.check.objective <= fit.check.head_objective
    assert fit.check.logreg_c is None
    assert fit.check.head_train.loss == pytest.approx(loss, rel=1e-5)


def test_test_views_are_the_mean_of_probabilities(extracted):
    """Over the plain image and its views, each calibrated by the temperature; the note says over what."""
    fit = featcache.fit_head(0.05, **extracted, **TRAINING, views=True, augment=NAMED, check_seconds=None)
    stores = {store["view"]: store["name"] for store in featcache.info(**extracted)["stores"]}
    names = [stores[None], *(stores[f"view {number} of {NAMED}"] for number in (1, 2))]
    splits = [featcache.load("val", **extracted, store=name) for name in names]
    own = [softmax(fit.best.head.logits(split.x)) for split in splits]
    mean = np.mean([apply_temperature(shares, fit.temperatures[fit.best.name]) for shares in own], axis=0)
    predictions = featcache.predict_split(fit.best.name, **extracted, test_views=True)
    np.testing.assert_allclose(predictions.probabilities, mean, rtol=1e-5)
    found = featcache.evaluate(fit.best.name, **extracted, test_views=True)
    assert f"the mean over each image and its 2 views of {NAMED} (--test-views)" in " ".join(found.notes)
    plain = featcache.fit_head(0.05, **extracted, **TRAINING, check_seconds=None)
    pair = featcache.evaluate_pair(fit.best.name, plain.best.name, **extracted, test_views=True)
    assert pair.first.confusion.tolist() == found.confusion.tolist()
    assert pair.second.confusion.tolist() == featcache.evaluate(plain.best.name, **extracted).confusion.tolist()
    with pytest.raises(CacheError, match="2 sets of views"):
        featcache.evaluate(plain.best.name, **extracted, test_views=True)
    same = featcache.evaluate(plain.best.name, **extracted, test_views=True, augment="none")
    assert same.confusion.tolist() == pair.second.confusion.tolist()
    with pytest.raises(UsageError, match="no effect without --test-views"):
        featcache.evaluate(plain.best.name, **extracted, augment="none")


def test_a_head_with_test_views_against_itself_differs_as_two_heads_do(extracted, run):
    """The interval is that of both sides' predictions; the terminal and the JSON say that B is on plain images."""
    fit = featcache.fit_head(0.05, **extracted, **TRAINING, views=True, augment=NAMED, check_seconds=None)
    name = fit.best.name
    pair = featcache.evaluate_pair(name, name, **extracted, test_views=True, split="train")
    assert pair.intervals.resamples > 0
    assert featcache.evaluate_pair(name, name, **extracted, split="train").intervals.resamples == 0
    note = f"B, {name}, is on plain images: --test-views is about A alone"
    assert note in pair.to_json()["against"]["notes"]
    flags = ["--data", extracted["data"], "--cache", extracted["cache"], "--test-views"]
    shown = " ".join(run("report", name, "--against", name, *flags).out.split())
    assert note in shown
    assert "same head" not in shown


def test_conformal_sets_with_test_views_are_calibrated_on_the_views_of_val(extracted):
    """The threshold is that of the mean probabilities of val, as the sets are of those of the split."""
    fit = featcache.fit_head(0.05, **extracted, **TRAINING, views=True, augment=NAMED, check_seconds=None)
    val = featcache.predict_split(fit.best.name, **extracted, split="val", test_views=True)
    evaluation = featcache.evaluate(fit.best.name, **extracted, split="train", test_views=True, conformal=0.8)
    assert evaluation.conformal.threshold == conformal_threshold(val.probabilities, val.truth, 0.8)


def test_predict_averages_over_the_views_of_new_images(extracted, trunk):
    """A file's views are those that an extract makes of it, so both give the same probabilities."""
    fit = featcache.fit_head(0.05, **extracted, **TRAINING, views=True, augment=NAMED, check_seconds=None)
    expected = featcache.predict_split(fit.best.name, **extracted, test_views=True)
    files = [str(Path(extracted["data"]) / path) for path in expected.paths]
    found = featcache.predict(fit.best.name, files, **extracted, test_views=True, device="cpu", batch_size=4, workers=1)
    np.testing.assert_allclose(found.probabilities, expected.probabilities, rtol=1e-4, atol=1e-6)
    assert found.embedded == len(files)
    assert any("2 views" in note for note in found.notes)


def test_rows_of_views_are_stacked_view_by_view(extracted):
    """Row v n + i is view v of image i, with the label of image i."""
    features = featcache.load("val", **extracted)
    views = np.arange(2 * features.x.size, dtype=np.float32).reshape(2, *features.x.shape)
    stacked = stack_views(featcache.Features(**{**vars_of(features), "views": views}))
    assert stacked.x.tobytes() == views.tobytes()
    assert stacked.y.tolist() == features.y.tolist() * 2
    assert stacked.paths == features.paths * 2


def vars_of(features: featcache.Features) -> dict:
    return {name: getattr(features, name) for name in features.__dataclass_fields__}


def test_views_that_are_not_there_are_one_sentence(extracted, trunk, tmp_path):
    """None at all, none of that kind, several kinds, or images without: each with what to type."""
    with pytest.raises(CacheError, match=r"2 sets of views .*; name --augment flip=1,crop=0.3,color or --augment none"):
        featcache.fit_head(0.05, **extracted, **TRAINING, views=True)
    none = r"no views of color .*; run `featcache extract --views 4 --augment color "
    with pytest.raises(CacheError, match=none) as caught:
        featcache.fit_head(0.05, **extracted, **TRAINING, views=True, augment="color")
    assert [str(caught.value).count(flag) for flag in ("--arch ", "--weights ")] == [1, 1]
    with pytest.raises(UsageError, match="augment has no effect without --views"):
        featcache.fit_head(0.05, **extracted, **TRAINING, augment="color")
    with pytest.raises(UsageError, match="held in memory"):
        featcache.fit_head(0.05, **extracted, **TRAINING, views=True, augment="none", from_disk=True)
    store = next(store["name"] for store in featcache.info(**extracted)["stores"] if store["view"])
    with pytest.raises(UsageError, match=r"it holds view 1 of .*; a head is trained on the plain images, or with"):
        featcache.fit_head(0.05, **extracted, **TRAINING, store=store)
    root = write_images(tmp_path / "digits", {"train": {"0": 4, "1": 4}})
    options = {"data": str(root), "cache": str(tmp_path / "cache")}
    settings = Settings(device="cpu", workers=1)
    featcache.extract(**options, **trunk, views=2, settings=settings)
    (root / "train" / "1" / "new.png").write_bytes(next((root / "train" / "1").glob("*.png")).read_bytes() + b"\0")
    featcache.extract(**options, **trunk, settings=settings)
    with pytest.raises(CacheError, match=r"1 image of train lacks view 1 of flip,crop: .*new.png; run `featcache .*2"):
        featcache.fit_head(0.05, **options, **TRAINING, views=True)


def test_the_command_line_takes_views(extracted, nano, run):
    """extract, fit-head, report, predict and export by their flags, each of which says what it did."""
    named = ["--data", extracted["data"], "--cache", extracted["cache"]]
    fit = run("fit-head", *named, "--lr", 0.05, "--epochs", 4, "--views", "--augment", NAMED, "--no-check")
    assert (fit.code, "each step draws one of 2 views (flip=1,crop=0.3,color)" in fit.err) == (0, True)
    page = Path(extracted["cache"]).with_name("report.html")
    report = run("report", "latest", *named, "--test-views", "--html", page)
    assert (report.code, "its 2 views of" in " ".join((report.out + report.err).split())) == (0, True)
    text = page.read_text("utf-8")
    assert re.search(r"featcache extract .* --views 2 --augment flip=1,crop=0.3,color", text)
    assert re.search(r"featcache fit-head .* --views .*--augment flip=1,crop=0.3,color", text)
    assert re.search(r"featcache report .* --test-views --html", text)
    file = next(Path(extracted["data"], "val").rglob("*.png"))
    assert run("predict", "latest", file, *named, "--test-views", "--weights", nano.weights).code == 0
    again = run("extract", *named, *nano.flags, "--views", 2, "--augment", NAMED)
    assert "digits/train: 36 images: 0 embedded, 36 reused" in again.out
    assert "view 2 of flip=1,crop=0.3,color: " in again.out
    assert again.out.splitlines()[-1].startswith("next: featcache fit-head --views ")
    assert load_file(next(Path(extracted["cache"]).rglob("head.safetensors"))).keys() == {"weight", "bias"}
