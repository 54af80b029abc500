"""Stage one, from a folder of images to embeddings, with a small real trunk."""

import contextlib
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import featcache
from featcache import CacheError, DataError, MachineError, Settings, Summary, UsageError
from featcache.extraction import Progress, job
from featcache.trunks import nvjpeg, trunk
from tests.conftest import ARCH, Nano, single_thread, write_images

Extract = Callable[..., Summary]


one_thread = pytest.fixture(autouse=True)(single_thread)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Fourteen images of three digits in one split."""
    return write_images(tmp_path / "digits", {"train": {"0": 6, "1": 5, "2": 3}})


@pytest.fixture
def extract(nano: Nano, tmp_path: Path) -> Extract:
    """Extract one split into tmp_path/cache, one worker, batches of 4."""

    def call(root: Path, split: str = "train", *, progress=lambda _: None, **options) -> Summary:
        names = ("max_bad", "retry_failed", "shard_rows", "batch_size")
        running = {"batch_size": 4} | {name: options.pop(name) for name in names if name in options}
        given = {"arch": ARCH, "weights": str(nano.weights), "precision": "fp32", "cache": tmp_path / "cache"}
        settings = Settings(device="cpu", workers=1, **running)
        return featcache.extract(split, data=str(root), settings=settings, progress=progress, **{**given, **options})[0]

    return call


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., featcache.Features]:
    def call(root: Path, split: str = "train", **options) -> featcache.Features:
        return featcache.load(split, data=str(root), **{"cache": tmp_path / "cache", **options})

    return call


def counts(found: Summary) -> tuple[int, int, int]:
    assert found.rows == found.embedded + found.reused + found.failed
    return found.embedded, found.reused, found.failed


def draw(path: Path, seed: int) -> Path:
    """An image that no other is like."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def torchvision_embeddings(weights: Path, files: list[Path]) -> np.ndarray:
    """Plain torchvision: its network, its transform, one image at a time."""
    from torchvision.models import VisionTransformer
    from torchvision.transforms._presets import ImageClassification

    network = VisionTransformer(64, 16, 2, 2, 64, 128)
    network.heads = torch.nn.Identity()
    network.load_state_dict(torch.load(weights, weights_only=True))
    transform = ImageClassification(crop_size=64, resize_size=72)
    with torch.inference_mode():
        pictures = [transform(Image.open(file).convert("RGB"))[None] for file in files]
        return torch.cat([network.eval()(picture) for picture in pictures]).numpy()


def test_embeddings_are_torchvisions_own_in_listing_order(folder, nano, extract, load):
    """Row i of `load` is what plain torchvision says of the i-th file, to 1e-5; labels are the folders' names."""
    for split, rows in (("train", 28), ("val", 11)):
        assert counts(extract(folder, split)) == (rows, 0, 0)
        found = load(folder, split)
        assert list(found.paths) == sorted(found.paths)
        assert [found.classes[label] for label in found.y] == [path.split("/")[1] for path in found.paths]
        expected = torchvision_embeddings(nano.weights, [folder / path for path in found.paths])
        assert np.linalg.norm(found.x - expected, axis=1).max() <= 1e-5 * np.linalg.norm(expected, axis=1).min()


def test_every_split_where_none_is_named(folder, nano, tmp_path):
    """One summary a split, train first; all in one store."""
    settings = Settings(device="cpu", workers=1)
    found = featcache.extract(
        data=str(folder), cache=tmp_path / "cache", arch=ARCH, weights=str(nano.weights), settings=settings
    )
    assert [(one.split, one.rows) for one in found] == [("train", 28), ("val", 11), ("test", 12)]
    assert len({one.store for one in found}) == 1


def test_the_engine_is_chosen_for_all_splits_together(folder, nano, tmp_path):
    """Every split says the same: chosen once, from the rows that were missing in all of them."""

    def engines(**options) -> set[str]:
        settings = Settings(device="cpu", workers=1, **options)
        found = featcache.extract(
            data=str(folder), cache=tmp_path / "cache", arch=ARCH, weights=str(nano.weights), settings=settings
        )
        return {one.engine for one in found}

    assert {said.partition(" are fewer")[0] for said in engines()} == {"engine eager: 51 images"}
    draw(folder / "val" / "0" / "new.png", 1)
    draw(folder / "test" / "0" / "new.png", 2)
    assert {said.partition(" are fewer")[0] for said in engines()} == {"", "engine eager: 2 images"}


NO_OP = """
import sys, featcache
found = featcache.extract("train", data=sys.argv[1], cache=sys.argv[2], arch=sys.argv[3], weights=sys.argv[4])[0]
print(found.embedded, found.reused, "torch" in sys.modules, "h5py" in sys.modules)
"""


def test_a_complete_cache_embeds_nothing_and_imports_no_torch(small, nano, extract, tmp_path):
    """The second run reads no image and needs no trunk; with `auto` it adopts the precision of the store there is."""
    extract(small)
    before = {path: path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file()}
    words = [sys.executable, "-c", NO_OP, small, tmp_path / "cache", ARCH, nano.weights]
    done = subprocess.run(list(map(str, words)), check=True, capture_output=True, text=True)
    assert done.stdout.split()[:3] == ["0", "14", "False"]
    assert {path: path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file()} == before


def test_only_what_is_new_is_embedded(folder, nano, extract, load):
    """An added image costs one embedding, an edited one too; removing, renaming, moving and re-labelling cost none."""
    extract(folder)
    train = folder / "train"

    draw(train / "1" / "new.png", 1)
    assert counts(extract(folder)) == (1, 28, 0)

    (train / "0" / "0003.png").unlink()
    assert counts(extract(folder)) == (0, 28, 0)

    (train / "0" / "0004.png").rename(train / "0" / "zzz.png")
    (train / "clip").mkdir()
    (train / "clip").rename(train / "1" / "clip")
    (train / "1" / "0001.png").rename(train / "1" / "clip" / "0001.png")
    assert counts(extract(folder)) == (0, 28, 0)

    (train / "2" / "0002.png").rename(train / "0" / "once a two.png")
    assert counts(extract(folder)) == (0, 28, 0)
    found = load(folder)
    assert found.classes[found.y[found.paths.index("train/0/once a two.png")]] == "0"

    shutil.copy(train / "0" / "0000.png", train / "2" / "a copy.png")
    assert counts(extract(folder)) == (0, 29, 0)
    (train / "0" / "0001.png").rename(folder / "val" / "0" / "once in train.png")
    assert counts(extract(folder, "val")) == (11, 1, 0)

    draw(train / "0" / "0000.png", 2)
    os.utime(train / "0" / "0002.png")
    (train / "0" / "0005.png").chmod(0o600)
    assert counts(extract(folder)) == (1, 27, 0)

    for split in ("train", "val"):
        found = load(folder, split)
        expected = torchvision_embeddings(nano.weights, [folder / path for path in found.paths])
        if split == "val":
            np.testing.assert_allclose(found.x, expected, atol=1e-4)
            continue
        extract(folder)
        np.testing.assert_allclose(load(folder).x, expected, atol=1e-4)


def test_an_edit_that_keeps_size_and_mtime_is_found(small, extract, load):
    """Other pixels in a file of the same size, its mtime put back: embedded anew."""
    path = small / "train" / "0" / "big.bmp"
    Image.new("RGB", (40, 40), "red").save(path)
    os.utime(path, ns=(10**18, 10**18))
    extract(small)
    before = load(small).x
    size = path.stat().st_size
    Image.new("RGB", (40, 40), "blue").save(path)
    os.utime(path, ns=(10**18, 10**18))
    assert path.stat().st_size == size
    assert counts(extract(small)) == (1, 14, 0)
    changed = (load(small).x != before).any(axis=1)
    assert [path for path, new in zip(load(small).paths, changed, strict=True) if new] == ["train/0/big.bmp"]


def test_duplicate_images_are_embedded_once(small, extract, load):
    """In one run, in rows of different classes and in another split; every row has the image's embedding."""
    shutil.copytree(small / "train", small / "val")
    for number in range(3):
        shutil.copy(small / "train" / "0" / "0000.png", small / "train" / "2" / f"copy {number}.png")
    assert counts(extract(small)) == (14, 3, 0)
    assert counts(extract(small, "val")) == (0, 14, 0)
    found = load(small)
    rows = [row for row, path in enumerate(found.paths) if "copy" in path or path == "train/0/0000.png"]
    assert len(rows) == 4
    assert len(np.unique(found.x[rows], axis=0)) == 1
    assert len(np.unique(found.x, axis=0)) == 14


def spoil(root: Path, number: int) -> None:
    for name in range(number):
        (root / "train" / "1" / f"bad {name}.png").write_bytes(b"<html>404</html>")


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


def scaled(nano: Nano, factor: float, path: Path) -> Path:
    """The same trunk with every embedding multiplied."""
    state = torch.load(nano.weights, weights_only=True)
    for name in ("encoder.ln.weight", "encoder.ln.bias"):
        state[name] = state[name] * factor
    torch.save(state, path)
    return path


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


def test_float16_is_kept_where_it_was_asked_for(small, extract, load):
    """A store of its own; its values are float32's rounded once."""
    full, half = extract(small), extract(small, stored="float16")
    assert full.store != half.store
    x = load(small, store=full.store).x
    assert load(small, store=half.store).x.tobytes() == x.astype(np.float16).astype(np.float32).tobytes()


def test_a_first_look_costs_only_itself(small, extract, load):
    """`limit` and `fraction` embed so many rows, a larger part reuses the smaller; Features say that it is a part."""
    assert counts(extract(small, limit=4)) == (4, 0, 0)
    assert (len(load(small).y), load(small).part) == (4, "limit 4")
    assert set(load(small).y) == {0, 1, 2}
    assert counts(extract(small, fraction=0.5)) == (3, 4, 0)
    assert counts(extract(small)) == (7, 7, 0)
    assert load(small).part == ""
    with pytest.raises(UsageError):
        extract(small, limit=4, fraction=0.5)


def test_a_name_that_stands_for_other_images_is_refused(small, extract, load, tmp_path):
    """Another folder of the same name is exit class 3, and nothing is written; --name decides, either way."""
    extract(small)
    other = tmp_path / "elsewhere" / "digits"
    draw(other / "train" / "0" / "0000.png", 1)
    draw(other / "train" / "1" / "0000.png", 2)
    with pytest.raises(CacheError, match="--name") as told:
        extract(other)
    assert str(small) in str(told.value)
    assert len(load(small).y) == 14
    assert counts(extract(other, name="others")) == (2, 0, 0)
    assert counts(extract(other, name="digits")) == (0, 2, 0)
    assert len(load(other).y) == 2
    with pytest.raises(CacheError, match=f"was extracted from {other}"):
        load(small)


def test_a_name_stands_for_one_folder_in_all_its_splits(small, extract, load, tmp_path):
    """Train of one folder and test of another cannot come together under one name."""
    extract(small)
    other = write_images(tmp_path / "elsewhere" / small.name, {"test": {"0": 2, "1": 2}})
    with pytest.raises(CacheError, match="--name"):
        extract(other, "test")


def test_a_moved_folder_is_the_same_data_set(small, extract, load, tmp_path):
    """The same images under another root embed nothing and need no --name; where one of them changed they do."""
    extract(small)
    moved = tmp_path / "disk2" / "digits"
    moved.parent.mkdir()
    small.rename(moved)
    assert counts(extract(moved)) == (0, 14, 0)
    assert load(moved).source["root"] == str(moved)
    again = tmp_path / "disk3" / "digits"
    again.parent.mkdir()
    moved.rename(again)
    draw(again / "train" / "0" / "0000.png", 1)
    with pytest.raises(CacheError, match="does not hold all of its images as they were"):
        extract(again)
    assert counts(extract(again, name="digits")) == (1, 13, 0)


@pytest.mark.parametrize("lost", [False, True])
def test_an_extract_writes_a_damaged_listing_again(small, extract, load, tmp_path, lost):
    """What the error advises works: `featcache extract` mends a damaged or lost listing, and embeds nothing."""
    spoil(small, 1)
    extract(small, max_bad=0.5)
    expected = load(small)
    file = next((tmp_path / "cache" / "listings").rglob("*.h5"))
    file.unlink()
    if not lost:
        file.write_bytes(b"\0" * 100)
    with pytest.raises(CacheError, match="featcache extract --split train"):
        load(small)
    assert counts(extract(small, max_bad=0.5)) == (0, 14, 1)
    assert load(small).x.tobytes() == expected.x.tobytes()
    assert load(small).paths == expected.paths


class Interrupter:
    """Ctrl-C at the n-th word of progress; so slow that every image gets a word."""

    def __init__(self, calls: int) -> None:
        self.left = calls

    def __call__(self, _: Progress) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt
        time.sleep(0.101)


def test_an_interrupted_extract_ends_with_the_same_embeddings(small, extract, load, tmp_path):
    """Ctrl-C at random images, again and again, then to the end: what load returns is byte for byte the same."""
    draw(small / "train" / "1" / "zz.png", 1)
    shutil.copy(small / "train" / "0" / "0000.png", small / "train" / "2" / "a copy.png")
    extract(small, cache=tmp_path / "undisturbed")
    moments, interrupted = random.Random(4), 0
    for calls in (1, 2, 7, moments.randint(3, 8), moments.randint(3, 8)):  # the seventh word comes after a batch
        with contextlib.suppress(KeyboardInterrupt):
            extract(small, shard_rows=5, progress=Interrupter(calls))
            break
        interrupted += 1
    assert interrupted >= 3
    assert extract(small).reused > 1
    expected, found = load(small, cache=tmp_path / "undisturbed"), load(small)
    assert found.x.tobytes() == expected.x.tobytes()
    assert found.y.tobytes() == expected.y.tobytes()
    assert (found.paths, found.source["listing"]) == (expected.paths, expected.source["listing"])
    assert not list((tmp_path / "cache").rglob("*.partial"))
    assert featcache.verify(cache=tmp_path / "cache") == []


def test_batches_workers_and_shards_do_not_show_in_an_embedding(small, nano, extract, load, tmp_path):
    """Two workers and shards of one row give the bytes that one worker and one shard give."""
    extract(small, cache=tmp_path / "one")
    settings = Settings(device="cpu", workers=2, batch_size=4, shard_rows=1)
    featcache.extract(
        "train", data=str(small), cache=tmp_path / "two", arch=ARCH, weights=str(nano.weights), precision="fp32",
        settings=settings,
    )  # fmt: skip
    one, two = load(small, cache=tmp_path / "one"), load(small, cache=tmp_path / "two")
    assert one.x.tobytes() == two.x.tobytes()
    assert one.source["listing"] == two.source["listing"]


def test_weights_that_are_replaced_while_a_run_is_under_way_are_refused(small, nano, extract, tmp_path):
    """No embedding of the new file gets into the store of the old one; the next run makes the new one's store."""
    weights = tmp_path / "mine.pth"
    shutil.copy(nano.weights, weights)
    time.sleep(0.03)  # a file younger than the clock's grain is not trusted
    first = extract(small, weights=str(weights))
    draw(small / "train" / "0" / "new.png", 1)

    def replace(progress: Progress) -> None:
        if progress.stage == "reading" and not progress.done:
            scaled(nano, 2.0, tmp_path / "scratch.pth").rename(weights)

    with pytest.raises(MachineError, match="replaced while"):
        extract(small, weights=str(weights), progress=replace)
    second = extract(small, weights=str(weights))
    assert second.store != first.store
    assert counts(second) == (15, 0, 0)


def test_progress_and_summary_add_up(small, extract):
    """The last word says that every file is done; ignored files and classes without images are named."""
    (small / "train" / "0" / "notes.txt").write_text("no image by its name")
    (small / "val" / "7").mkdir(parents=True)
    words: list[Progress] = []
    found = extract(small, progress=words.append)
    assert (words[0].done, words[-1].done, words[-1].total) == (0, 14, 14)
    assert [word.done for word in words] == sorted(word.done for word in words)
    assert found.ignored == ("train/0/notes.txt",)
    assert found.empty_classes == ("7",)
    assert found.to_json()["rows"] == 14


def test_names_of_any_bytes_are_extracted(small, extract, load):
    """Not UTF-8, a newline, markup: each has its row, under its own name."""
    names = [os.fsdecode(b"caf\xe9.png"), "two\nlines.png", "=cmd.png", "<script>.png", "é.png", "e\u0301.png"]
    for number, name in enumerate(names):
        draw(small / "train" / "0" / name, number)
    assert counts(extract(small)) == (20, 0, 0)
    assert {f"train/0/{name}" for name in names} <= set(load(small).paths)
    assert counts(extract(small)) == (0, 20, 0)


def test_a_split_whose_name_cannot_be_kept_is_refused_before_any_work(small, extract, tmp_path):
    """A split's name becomes a file's name: what does not fit is said at once, not after hours of embedding."""
    draw(small / "hold out" / "0" / "1.png", 1)
    with pytest.raises(DataError, match="'hold out'"):
        extract(small, "hold out")
    with pytest.raises(DataError, match="'hold out'"):
        extract(small, None)
    assert not list((tmp_path / "cache").rglob("*.h5"))


def test_decoding_on_a_gpu_needs_one(extract, small, tmp_path):
    """--decode gpu on a CPU: one error that says the way out, and no store is left behind."""
    with pytest.raises(MachineError, match=r"this runs on cpu\. .* or extract with --decode exact"):
        extract(small, decode="gpu")
    assert not list((tmp_path / "cache").glob("features/*"))


def test_images_that_the_device_decodes(extract, load, tmp_path, monkeypatch):
    """The whole way of --decode gpu, a CPU in the GPU's place: a store of its own, near the exact one row by row.

    What the decoder refuses is a named row; a new making is held against the old one.
    """

    def decode_jpeg(files, **kept):
        try:
            return real(files, **kept)
        except RuntimeError:  # in the words of a GPU's decoder
            raise RuntimeError("Error while decoding JPEG images: nvjpegDecode failed: 3") from None

    real = nvjpeg.decode_jpeg
    monkeypatch.setattr(nvjpeg, "decode_jpeg", decode_jpeg)
    for module in (job, trunk):
        monkeypatch.setattr(module, "require_decoder", lambda decoder, device: None)
    photos = write_images(tmp_path / "photos", {"train": {"0": 6, "1": 5}}, kind="jpg")
    Image.open(next(photos.rglob("*.jpg"))).save(photos / "train" / "0" / "other.png")
    sound = (photos / "train" / "1" / "0000.jpg").read_bytes()
    at = sound.index(b"\xff\xc4") + 5  # its Huffman tables
    (photos / "train" / "1" / "bad.jpg").write_bytes(sound[:at] + b"\xff" * 16 + sound[at + 16 :])
    found = extract(photos, decode="gpu", max_bad=0.5)
    assert counts(found) == (12, 0, 1)
    ((path, reason),) = found.failures
    assert path.endswith("bad.jpg")
    assert reason.startswith("the GPU cannot decode it (--decode exact may)")
    assert counts(extract(photos, decode="gpu", max_bad=0.5)) == (0, 12, 1)
    extract(photos, max_bad=0.5)
    near, exact = (load(photos, store=store) for store in (found.store, extract(photos, max_bad=0.5).store))
    assert near.paths == exact.paths
    assert (np.linalg.norm(near.x - exact.x, axis=1) / np.linalg.norm(exact.x, axis=1)).max() < 0.05
    write_images(photos, {"train": {"2": 3}}, kind="jpg")
    more = extract(photos, decode="gpu", max_bad=0.5, batch_size=8)
    assert counts(more) == (3, 12, 1)
    assert more.drift is not None
    assert (more.drift.compared, more.drift.cosine) == (8, 0.0)
