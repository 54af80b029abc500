"""docs/format.md is the format: a reader that was written from it alone reads what featcache reads.

And the golden cache of each format stays readable.
"""

import ast
import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import featcache
from featcache.media import View
from featcache.media.views import draw_colors, draw_crop, draw_flip
from featcache.store.index import pack_digests
from tests import independent
from tests.builders import fit_head, new_store, record_layer, reopen
from tests.independent import RefusedError

GOLDEN = Path(__file__).parent / "golden"
FORMATS = sorted(path.name for path in GOLDEN.iterdir() if (path / "stores").is_dir())


@pytest.fixture(params=FORMATS)
def golden(request, tmp_path: Path) -> tuple[Path, dict]:
    expected = json.loads((GOLDEN / f"{request.param}.json").read_text())
    return shutil.copytree(GOLDEN / request.param, tmp_path / "cache"), expected


def agree(expected: dict, x: np.ndarray, y: list[int], classes, paths: list[bytes], failed: int) -> None:
    assert hashlib.sha256(x.tobytes()).hexdigest() == expected["x"]
    assert (y, list(classes), failed) == (expected["y"], expected["classes"], expected["failed"])
    assert [path.hex() for path in paths] == expected["paths"]


def test_there_is_a_golden_cache_of_this_format():
    """Format 1, and every one that follows, has its own."""
    assert "format1" in FORMATS


def test_featcache_reads_the_golden_caches(golden):
    """Bit for bit what was loaded when they were made; verify has no problem, and the head can be used."""
    cache, expected = golden
    for split in expected:
        found = featcache.load(split, data="/tmp/featcache-golden/photos", cache=cache)
        paths = [os.fsencode(path) for path in found.paths]
        agree(expected[split], found.x, found.y.tolist(), found.classes, paths, found.failed)
    assert featcache.verify(cache=cache) == []
    found = featcache.evaluate(split="val", data="/tmp/featcache-golden/photos", cache=cache)
    assert found.rows == expected["val"]["rows"]


@pytest.mark.parametrize("by_hdf5", [False, True], ids=["at offsets", "h5py"])
def test_the_independent_reader_reads_the_golden_caches(golden, by_hdf5):
    """So does a reader that knows nothing but the document, at the log's offsets and through HDF5."""
    cache, expected = golden
    (store,) = os.listdir(cache / "stores")
    for split in expected:
        found = independent.load(cache, store, ("photos", "all", split), by_hdf5=by_hdf5)
        agree(expected[split], **found)


def test_the_independent_reader_knows_nothing_of_featcache():
    """It imports no module of ours."""
    tree = ast.parse(Path(independent.__file__).read_text())
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert not [name for name in names if name.startswith(("featcache", "tests"))]


@pytest.mark.parametrize("stored", ["float32", "float16"])
def test_both_readers_see_the_same_in_a_new_store(tmp_path, stored):
    """Whatever featcache writes today, repeated digests included: the first committed row counts."""
    store = new_store(tmp_path, asked="x", stored=stored, compute="bfloat16")
    digests = pack_digests([bytes([number]) * 32 for number in (3, 1, 3, 2)])
    rows = np.random.default_rng(1).standard_normal((4, 6)).astype(np.float32)
    with store.writer() as writer:
        for part in (slice(0, 2), slice(2, 4)):
            writer.append(digests[part], rows[part])
            writer.flush()
    store = reopen(store)
    assert independent.read_trunk(store.root)["spec"]["compute"] == "bfloat16"
    held: dict[bytes, bytes] = {}
    for part in independent.read_log(store.root / "commits.jsonl").shards.values():
        embeddings, names = independent.read_shard(store.root, part, by_hdf5=False)
        for name, row in zip(names, embeddings, strict=True):
            held.setdefault(name.tobytes(), row.astype(np.float32).tobytes())
    wanted = digests[[0, 1, 3]]
    assert store.load(wanted).tobytes() == b"".join(held[name.tobytes()] for name in wanted)


@pytest.mark.parametrize("refused", [(), (2, 9)], ids=["one listing", "two listings"])
def test_both_readers_see_the_same_in_several_stores_together(tmp_path, refused):
    """features.json and the stores that it names give the rows that featcache.load gives, and the head's widths."""
    record_layer(tmp_path, "cls", 6)
    record_layer(tmp_path, "mean", 4, refused=refused)
    head = fit_head(tmp_path, features="mean+cls").best
    assert head is not None
    (folder,) = (path.name for path in (tmp_path / "stores").iterdir() if path.name.startswith("features-"))
    for split in ("train", "val"):
        theirs = independent.load_together(tmp_path, folder, ("toy", "all", split))
        ours = featcache.load(split, data="/data/toy", cache=tmp_path, features="mean+cls")
        assert (ours.x.tobytes(), ours.y.tolist()) == (theirs["x"].tobytes(), theirs["y"])
        assert [os.fsencode(path) for path in ours.paths] == theirs["paths"]
        assert ours.failed == len(refused)
    assert independent.read_weight(head.folder).tobytes() == head.head.weight.tobytes()


@given(st.binary(min_size=32, max_size=32), st.integers(1, 99), st.integers(0, 10**18 - 1), st.floats(0.01, 1))
def test_a_view_is_drawn_as_the_document_says(digest, number, seed, crop):
    """Crop and flip of a view follow from the document alone: a reader can make the pixels of any row again."""
    document = {"number": number, "seed": seed, "crop": crop, "flip": 0.5}
    view = View(**document)
    expected = independent.crop_of_view(document, (640, 480), digest)
    assert expected in (None, draw_crop(view, (640, 480), digest))
    assert draw_flip(view, digest) == (independent.view_number(document, digest, "flip", 1) < 0.5)
    colors = dict(draw_colors(View(number=number, seed=seed, color=crop), digest))
    uniform = independent.view_number(document, digest, "color", 2)
    assert colors["contrast"] == 1 - crop + (1 + crop - (1 - crop)) * uniform


def test_the_independent_reader_knows_views(tmp_path):
    """A store of a view is read as any other; one whose view has an unknown key is refused."""
    store = new_store(tmp_path, view=View(number=2, crop=0.08))
    assert independent.read_trunk(store.root)["spec"]["view"] == {"number": 2, "crop": 0.08}
    document = json.loads((store.root / "trunk.json").read_text())
    document["spec"]["view"]["blur"] = 0.5
    del document["sum"]
    document["sum"] = hashlib.sha256(independent.canonical(document)).hexdigest()[:16]
    (store.root / "trunk.json").write_text(json.dumps(document))
    with pytest.raises(RefusedError, match="view"):
        independent.read_trunk(store.root)
    with pytest.raises(featcache.CacheError, match="blur"):
        reopen(store)


def test_both_readers_refuse_the_same_bits(golden):
    """One bit in 797 of every committed file of the golden store, flipped: both refuse, or both give the same rows."""
    cache, expected = golden
    (name,) = os.listdir(cache / "stores")
    root = cache / "stores" / name
    dropped = {path.name for path in (root / "shards").iterdir()} - set(
        independent.read_log(root / "commits.jsonl").shards
    )
    files = [root / "trunk.json", root / "commits.jsonl", *(cache / "listings").rglob("train-*.h5")]
    files += [path for path in (root / "shards").iterdir() if path.name not in dropped]
    refused = 0
    for file in files:
        whole = file.read_bytes()
        file.chmod(0o644)
        for bit in range(0, 8 * len(whole), 797):
            data = bytearray(whole)
            data[bit // 8] ^= 1 << bit % 8
            file.write_bytes(bytes(data))
            try:
                theirs = independent.load(cache, name, ("photos", "all", "train"))["x"].tobytes()
            except RefusedError:
                theirs = None
            try:
                found = featcache.load("train", data="/tmp/featcache-golden/photos", cache=cache)
                ours = found.x.tobytes()
            except featcache.CacheError:
                ours = None
            assert theirs == ours, (file, bit)
            assert ours is None or hashlib.sha256(ours).hexdigest() == expected["train"]["x"], (file, bit)
            refused += ours is None
        file.write_bytes(whole)
    assert refused > 30
