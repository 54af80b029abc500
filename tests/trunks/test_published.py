"""A published checkpoint that is given as a file gets the transform that its publisher states; any other says which."""

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import featcache
from featcache import CacheError, Settings
from featcache.files import StatLog
from featcache.recipe import TrunkSection
from featcache.store import create_store
from featcache.trunks import WeightsMemo, find_weights, weights
from featcache.trunks.architectures import ARCHITECTURES, PublishedWeights, architecture
from featcache.trunks.source import TrunkSource
from tests.conftest import ARCH, write_images

OWN = replace(architecture(ARCH).transform, resize=64, interpolation="bicubic")  # as SWAG_LINEAR differs from the rest


@pytest.fixture
def published(nano, monkeypatch) -> Path:
    """The small trunk's file, which somebody has published with a transform of its own."""
    prefix = hashlib.sha256(nano.weights.read_bytes()).hexdigest()[:8]
    known = replace(architecture(ARCH), published={"NANO_LINEAR_V1": PublishedWeights(f"vit_nano-{prefix}.pth", OWN)})
    monkeypatch.setitem(ARCHITECTURES, ARCH, known)
    return nano.weights


def source(file: Path, cache: Path, **section: str) -> TrunkSource:
    return TrunkSource(TrunkSection(arch=ARCH, weights=str(file), **section), WeightsMemo(cache))


def test_a_published_file_gets_its_own_transform(published, tmp_path):
    """Under any name; with what the recipe says of photographs beside it; and it is said."""
    renamed = shutil.copy2(published, tmp_path / "mine.pth")
    found = source(renamed, tmp_path, exif="apply")
    assert found.transform == replace(OWN, exif="apply")
    assert "mine.pth is torchvision's NANO_LINEAR_V1, by its hash: images are resized to 64 pixels (bicubic)" in (
        found.sentence
    )
    assert weights.transform_for(architecture(ARCH), str(renamed)) == OWN


def test_any_other_file_says_which_transform_it_gets(published, tmp_path):
    """The same tensors saved again are no published file: they get the default, and that is said."""
    torch.save(torch.load(published, weights_only=True), tmp_path / "again.pth")
    found = source(tmp_path / "again.pth", tmp_path)
    assert found.transform == architecture(ARCH).transform
    said = "again.pth: images are resized to 72"
    assert said in found.sentence


def test_it_is_remembered_by_the_files_stat(published, tmp_path):
    """A file that was looked at is not read again; an entry of an earlier version, which does not say, is looked up."""
    memo = WeightsMemo(tmp_path)
    first = source(published, tmp_path)
    assert memo.file_sha256(ARCH, published) is None
    sha256 = first.sha256
    assert memo.file_sha256(ARCH, published) == hashlib.sha256(published.read_bytes()).hexdigest()
    assert memo.find(ARCH, str(published), published, vouched=False) == sha256
    assert source(published, tmp_path).transform == OWN


def test_every_published_name_has_the_hash_in_its_file():
    """Torchvision's file names state the first eight digits of the file's sha256."""
    for arch in ARCHITECTURES.values():
        for found in arch.published.values():
            assert len(found.prefix) == 8
            assert set(found.prefix) <= set("0123456789abcdef")


def test_a_store_of_an_earlier_version_stays_usable(nano, published, tmp_path, monkeypatch):
    """A store that was made of such a file under the default transform is answered from, until extract makes another
    beside it and says so; then --store tells them apart.
    """
    folder, cache = write_images(tmp_path / "digits", {"train": {"0": 3, "1": 3}}), tmp_path / "cache"
    where = {"data": str(folder), "cache": cache}
    running = {"arch": ARCH, "weights": str(published), "precision": "fp32"}
    running["settings"] = Settings(device="cpu", workers=1)
    with monkeypatch.context() as before:
        before.setitem(ARCHITECTURES, ARCH, replace(architecture(ARCH), published={}))
        (old,) = featcache.extract("train", **running, **where)
    assert "none of those that torchvision published" in old.transform
    assert featcache.load("train", weights=str(published), **where).source["store"] == old.store
    record = create_store(
        cache, source(published, cache).spec("float32"), weights_name="nano.pth", stat_log=StatLog(cache)
    ).trunk
    assert record.spec.transform == OWN
    held = next(found for found in featcache.info(**where)["stores"] if found["name"] == old.store)
    assert held["rows"] == 6
    (new,) = featcache.extract("train", **running, **where)
    assert (new.embedded, new.store != old.store) == (6, True)
    assert "is torchvision's NANO_LINEAR_V1" in new.transform
    assert f"made of the same weights under another transform: {old.store}" in new.transform
    with pytest.raises(CacheError, match="2 stores"):
        featcache.load("train", **where)
    assert featcache.load("train", store=old.store, **where).source["store"] == old.store
    spec = replace(record.spec, transform=architecture(ARCH).transform)
    located = find_weights(spec, "nano.pth", WeightsMemo(cache), str(nano.weights))
    assert located is not None
    assert located.spec("float32") == spec
