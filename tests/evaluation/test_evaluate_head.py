"""Which head is evaluated on which split, and that what is counted is what the network predicts."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import featcache
from featcache import CacheError, Evaluation, Settings
from featcache.heads.saved import run_log as runs
from tests.builders import fit_head, record_clusters
from tests.conftest import ARCH, Nano, single_thread

one_thread = pytest.fixture(autouse=True)(single_thread)


def evaluate(cache: Path, head: str | None = None, **options) -> Evaluation:
    return featcache.evaluate(head, data="/data/toy", cache=cache, **options)


def test_the_confusion_matrix_counts_what_the_saved_head_predicts(tmp_path):
    """Row by row, from head.safetensors and the split's features alone; failed rows are counted apart."""
    record_clusters(tmp_path, "train", "val")
    record_clusters(tmp_path, "test", failed=4)
    head = fit_head(tmp_path).best
    found = evaluate(tmp_path)
    tensors = load_file(head.folder / "head.safetensors")
    test = featcache.load("test", data="/data/toy", cache=tmp_path)
    predicted = (torch.from_numpy(test.x) @ tensors["weight"].T + tensors["bias"]).argmax(1).numpy()
    expected = np.zeros((3, 3), np.int64)
    np.add.at(expected, (test.y, predicted), 1)
    assert found.confusion.tolist() == expected.tolist()
    assert (found.rows, found.failed, found.split, found.head) == (26, 4, "test", head.name)


def test_test_is_the_default_split_and_val_stands_in(tmp_path):
    """Test where it was extracted, else val, else an error with the command; a named split is that split."""
    record_clusters(tmp_path, "train")
    fit_head(tmp_path)
    with pytest.raises(CacheError, match="featcache extract --split test"):
        evaluate(tmp_path)
    record_clusters(tmp_path, "val")
    assert evaluate(tmp_path).split == "val"
    record_clusters(tmp_path, "test")
    assert evaluate(tmp_path).split == "test"
    assert evaluate(tmp_path, split="val").split == "val"
    train = evaluate(tmp_path, split="train")
    assert any("trained on" in note for note in train.notes)
    with pytest.raises(CacheError, match="toy has no split 'holdout'; it has train, val, test"):
        evaluate(tmp_path, split="holdout")


def test_the_best_on_val_is_the_default_head(tmp_path):
    """Of all runs, not of the last one; what chose it is said, and which head is the newest run's best."""
    record_clusters(tmp_path, "train", "val", "test")
    first = fit_head(tmp_path, [0.1, 0.2, 0.3])
    found = evaluate(tmp_path)
    assert found.selected_by == "macro recall on val"
    second = fit_head(tmp_path, 1e-7)
    assert second.best.head.val.macro_recall < max(head.head.val.macro_recall for head in first.heads)
    assert evaluate(tmp_path).head == evaluate(tmp_path, "best").head == found.head
    assert f"; `latest` is #4 {second.best.name}, the best of the newest run" in evaluate(tmp_path).chosen
    assert (evaluate(tmp_path, "latest").head, evaluate(tmp_path, "latest").selected_by) == (second.best.name, "")


def test_a_run_in_which_every_head_diverged_is_not_hushed_up(tmp_path):
    """After a run without a sound head `latest` is refused, and `best` says so of the older head that it means."""
    store = record_clusters(tmp_path, "train", "val")
    older = fit_head(tmp_path)
    train = featcache.load("train", pipeline=None, data="/data/toy", cache=tmp_path)
    runs.record_run(store, train, [], best=None, seconds=0.1)
    with pytest.raises(CacheError, match="newest run of toy diverged"):
        evaluate(tmp_path, "latest")
    assert evaluate(tmp_path).head == evaluate(tmp_path, older.best.name).head == older.best.name
    assert "every head of the newest run diverged" in evaluate(tmp_path).chosen


def test_a_head_is_named_by_its_name_or_a_beginning_that_is_its_own(tmp_path):
    """An ambiguous beginning names those that share it; an unknown name, all there are; a whole name always wins."""
    record_clusters(tmp_path, "train", "val", "test")
    heads = fit_head(tmp_path, [0.1, 0.15, 0.2]).heads
    for head in heads:
        assert evaluate(tmp_path, head.name).head == head.name
    assert evaluate(tmp_path, "lr0.2").head == heads[2].name
    with pytest.raises(CacheError, match=r"2 heads start with 'lr0\.1'") as told:
        evaluate(tmp_path, "lr0.1")
    assert heads[0].name in str(told.value)
    assert heads[2].name not in str(told.value)
    with pytest.raises(CacheError, match=r"no head is called 'lr9'.*lr0\.2"):
        evaluate(tmp_path, "lr9")
    with pytest.raises(CacheError):
        evaluate(tmp_path, "../" + heads[0].name)


def test_without_a_head_the_command_is_named(tmp_path):
    """Exit class 3 and `featcache fit-head`; in an empty cache, of a folder that is not here, `featcache extract`."""
    for cache, advised in ((tmp_path / "none", "featcache extract FOLDER"), (tmp_path, "featcache fit-head")):
        record_clusters(tmp_path, "train", "test")
        with pytest.raises(CacheError, match=advised):
            evaluate(cache)


def test_a_head_whose_file_was_damaged_is_refused(tmp_path):
    """By its name, and as `latest`: train it again. `best` passes it over, as compare does, and says so."""
    record_clusters(tmp_path, "train", "val", "test")
    fit_head(tmp_path, 1e-7)
    best = fit_head(tmp_path, 0.1).best
    assert evaluate(tmp_path).head == best.name
    (best.folder / "head.safetensors").write_bytes(b"damaged")
    for head in (best.name, "latest"):
        with pytest.raises(CacheError, match="train the head again"):
            evaluate(tmp_path, head)
    found = evaluate(tmp_path)
    assert found.head.startswith("lr1e-07")
    assert any(best.name in note and "left out" in note for note in found.notes)


@pytest.mark.parametrize("classes", [("ant", "bee", "cat", "dog"), ("ant", "bee", "cow")])
def test_a_split_with_other_classes_is_refused(tmp_path, classes):
    """More classes, or as many of other names: labels are never read with another list."""
    record_clusters(tmp_path, "train", "val")
    record_clusters(tmp_path, "test", classes=classes)
    fit_head(tmp_path)
    with pytest.raises(CacheError, match="featcache extract"):
        evaluate(tmp_path)
    assert evaluate(tmp_path, split="val").rows == 30


def test_subjects_in_both_splits_are_refused_unless_allowed(tmp_path):
    """A person in train and test flatters the head: exit class 3 with the names; other persons, or none named, pass."""
    record_clusters(tmp_path / "a", "train", "test", subject="vp7")
    fit_head(tmp_path / "a")
    with pytest.raises(CacheError, match=r"vp7.*--allow-shared-subjects"):
        evaluate(tmp_path / "a")
    assert evaluate(tmp_path / "a", allow_shared_subjects=True).rows == 30
    assert evaluate(tmp_path / "a", split="train").rows == 30
    record_clusters(tmp_path / "b", "train", subject="vp1")
    record_clusters(tmp_path / "b", "test", subject="vp2")
    fit_head(tmp_path / "b")
    assert evaluate(tmp_path / "b").rows == 30
    record_clusters(tmp_path / "c", "train", "test")
    fit_head(tmp_path / "c")
    assert evaluate(tmp_path / "c").rows == 30


def test_the_embeddings_of_train_are_not_read(tmp_path):
    """With every embedding of train damaged on disk, a head is evaluated, and shared people are found all the same."""
    record_clusters(tmp_path, "train", subject="vp7")
    (train,) = tmp_path.glob("stores/*/shards/*")
    record_clusters(tmp_path, "val", subject="vp7")
    store = record_clusters(tmp_path, "test", subject="vp8")
    fit_head(tmp_path)
    rows, x = train.read_bytes(), featcache.load("train", data="/data/toy", cache=tmp_path).x.tobytes()
    assert rows.count(x) == 1
    train.write_bytes(rows.replace(x, bytes(len(x))))
    with pytest.raises(CacheError, match=train.name):
        featcache.load("train", data="/data/toy", cache=tmp_path)
    assert evaluate(tmp_path).rows == len(store.listing(("toy", "all", "test")).embedded)
    with pytest.raises(CacheError, match=r"vp7.*--allow-shared-subjects"):
        evaluate(tmp_path, split="val")
    assert evaluate(tmp_path, split="val", allow_shared_subjects=True).rows == 30


def test_a_head_is_evaluated_on_the_store_that_it_was_trained_on(tmp_path):
    """With two trunks in the cache the newest head brings its own; a filter looks among its store's heads alone."""
    first = record_clusters(tmp_path, "train", "test")
    second = record_clusters(tmp_path, "train", "test", weights="cd", asked="b.pth")
    one = fit_head(tmp_path, store=first.name).best
    two = fit_head(tmp_path, 0.2, weights="b.pth").best
    assert evaluate(tmp_path).head == two.name
    assert evaluate(tmp_path, store=first.name).head == one.name
    assert evaluate(tmp_path, weights="b.pth").head == two.name
    with pytest.raises(CacheError, match="no head is called"):
        evaluate(tmp_path, one.name, store=second.name)


def test_what_a_reader_must_know_is_noted(tmp_path):
    """A random trunk, a part of a split, a score on the images that chose the head."""
    record_clusters(tmp_path, "train", "val", asked="random", part="limit 30")
    fit_head(tmp_path, [0.1, 0.2])
    notes = " | ".join(evaluate(tmp_path).notes)
    for said in ("weights are random", "limit 30", "chosen by its score on these images"):
        assert said in notes


def test_torchvisions_own_network_with_the_trained_head_predicts_what_was_counted(folder: Path, nano: Nano, tmp_path):
    """VisionTransformer with heads = Linear, both from files, on the test images: the same confusion matrix."""
    from torchvision.models import VisionTransformer
    from torchvision.transforms._presets import ImageClassification

    where = {"data": str(folder), "cache": tmp_path / "cache"}
    settings = Settings(device="cpu", workers=1, batch_size=8)
    featcache.extract(**where, arch=ARCH, weights=str(nano.weights), precision="fp32", settings=settings)
    head = featcache.fit_head(0.1, **where, epochs=40, check_seconds=None, device="cpu").best
    found = featcache.evaluate(**where)

    network = VisionTransformer(64, 16, 2, 2, 64, 128)
    network.heads = torch.nn.Linear(64, 3)
    state = torch.load(nano.weights, weights_only=True)
    state |= {f"heads.{name}": value for name, value in load_file(head.folder / "head.safetensors").items()}
    network.load_state_dict(state, strict=True)
    transform = ImageClassification(crop_size=64, resize_size=72)
    confusion = np.zeros((3, 3), np.int64)
    with torch.inference_mode():
        for file in sorted((folder / "test").rglob("*.png")):
            logits = network.eval()(transform(Image.open(file).convert("RGB"))[None])
            confusion[head.classes.index(file.parent.name), int(logits.argmax())] += 1
    assert found.confusion.tolist() == confusion.tolist()
    assert found.rows == 12
    assert np.count_nonzero(confusion.sum(axis=0)) > 1  # a head that always says the same would prove little
