"""Stage one, from a folder of images to embeddings, with a small real trunk."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

import featcache
from featcache import Settings, Summary, UsageError
from featcache.extraction import Progress
from tests.conftest import ARCH, single_thread
from tests.extraction.runs import counts, draw, torchvision_embeddings

Extract = Callable[..., Summary]


one_thread = pytest.fixture(autouse=True)(single_thread)


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
