"""Images without an embedding: each keeps its row, and too many of them stop the run."""

import shutil
from collections.abc import Callable

import numpy as np
import pytest

from featcache import DataError, Summary
from featcache.extraction import Progress
from tests.conftest import single_thread
from tests.extraction.runs import counts, draw, scaled, spoil, torchvision_embeddings

Extract = Callable[..., Summary]


one_thread = pytest.fixture(autouse=True)(single_thread)


def test_a_bad_image_keeps_its_row_and_is_left_out_of_features(small, nano, extract, load):
    """Named with its reason; x, y and paths of the others stay aligned, and none stands in for it."""
    spoil(small, 1)
    (small / "train" / "0" / "0002.png").write_bytes(b"")
    (small / "train" / "2" / "nothing.png").symlink_to("nowhere")
    found = extract(small, max_bad=0.5)
    assert counts(found) == (13, 0, 3)
    assert [path for path, _ in found.failures] == ["train/0/0002.png", "train/1/bad 0.png", "train/2/nothing.png"]
    reasons = dict(found.failures)
    assert "empty" in reasons["train/0/0002.png"]
    assert "cannot be read" in reasons["train/2/nothing.png"]
    features = load(small)
    assert (len(features.y), features.failed) == (13, 3)
    assert not set(features.paths) & reasons.keys()
    expected = torchvision_embeddings(nano.weights, [small / path for path in features.paths])
    np.testing.assert_allclose(features.x, expected, atol=1e-4)
    assert [features.classes[label] for label in features.y] == [path.split("/")[1] for path in features.paths]


def test_a_bad_image_is_not_tried_again_until_it_changes(small, extract):
    """The next run reads nothing; with retry_failed it reads the bad one; mended, it costs one embedding."""
    spoil(small, 1)
    looked_at: list[int] = []

    def watch(progress: Progress) -> None:
        looked_at.append(progress.total)

    extract(small, max_bad=0.5)
    assert counts(extract(small, max_bad=0.5, progress=watch)) == (0, 14, 1)
    assert looked_at == []
    assert counts(extract(small, max_bad=0.5, retry_failed=True, progress=watch)) == (0, 14, 1)
    assert set(looked_at) == {1}
    draw(small / "train" / "1" / "bad 0.png", 3)
    assert counts(extract(small)) == (1, 14, 0)


def test_too_many_bad_images_stop_the_run_and_keep_what_was_embedded(small, extract):
    """Exit class 4 with the bad files named; who follows the advice in the message gets through, and loses nothing."""
    spoil(small, 7)
    share, advised = 0.01, []
    while len(advised) < 5:
        try:
            _, reused, failed = counts(extract(small, max_bad=share))
            break
        except DataError as error:
            said = str(error)
        assert "train/1/bad 0.png: no image" in said
        share = float(said.rsplit("--max-bad ", 1)[1].split()[0])
        advised.append(share)
    assert advised == sorted(set(advised))
    assert len(advised) > 1  # the run stops at the first image too many, and cannot know how many follow
    assert failed == 7
    assert reused >= 8  # two batches had been embedded when the first run stopped


def test_a_run_that_stopped_for_bad_images_says_the_same_again(small, extract):
    """With every bad file known, the next run reads nothing and still refuses."""
    spoil(small, 2)
    extract(small, max_bad=0.5)
    calls: list[Progress] = []
    with pytest.raises(DataError, match=r"(?s)2 of 16 images.*bad 0.png.*bad 1.png"):
        extract(small, max_bad=0.1, progress=calls.append)
    assert calls == []


@pytest.mark.parametrize(("stored", "limit"), [("float32", 3.4028235e38), ("float16", 65504.0)])
def test_an_embedding_that_is_not_finite_is_refused_with_the_image_named(
    small, nano, extract, load, tmp_path, stored, limit
):
    """Where one image's embedding overflows, that one is named, not stored, and not tried again."""
    extract(small)
    shutil.copy(small / "train" / "0" / "0000.png", small / "train" / "1" / "a copy.png")
    features = load(small)
    size = np.abs(features.x).max(axis=1).astype(np.float64)
    first, second = np.sort(size)[[-1, -2]]
    assert first > 1.0001 * second
    weights = scaled(nano, limit / np.sqrt(first * second), tmp_path / "large.pth")
    options = {"weights": str(weights), "stored": stored, "max_bad": 0.2}
    found = extract(small, **options)
    largest = features.paths[int(size.argmax())]
    copies = {largest, "train/1/a copy.png"} if largest == "train/0/0000.png" else {largest}
    assert {path for path, _ in found.failures} == copies
    assert all("not finite, or too large" in reason for _, reason in found.failures)
    after = load(small, store=found.store)
    assert not copies & set(after.paths)
    assert np.isfinite(after.x).all()
    assert len(after.x) == 15 - len(copies)
    calls: list[Progress] = []
    assert counts(extract(small, **options, progress=calls.append)) == (0, 15 - len(copies), len(copies))
    assert calls == []
    extract(small, **options, retry_failed=True, progress=calls.append)
    assert calls[0].total == len(copies)
