"""Pickle in the place of a head or of weights: refused, and nothing is executed."""

import hashlib
import pickle
from pathlib import Path

import pytest

import featcache
from featcache.errors import CacheError, FeatcacheError
from featcache.files.sealed import seal_document, unseal_document
from featcache.heads.saved import linear
from tests.faults.world import World, overwrite


class Canary:
    """Unpickled, it sings."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.fault(16)
def test_a_head_that_carries_pickle(hurt, tmp_path, saw):
    """Pickle in the place of any of a head's files, its checksums put right: refused, nothing executed."""
    featcache.fit_head(0.1, data=str(hurt.images), cache=hurt.cache, epochs=2, check_seconds=None, device="cpu")
    canary = tmp_path / "canary"
    song = pickle.dumps(Canary(canary))
    pickle.loads(song)
    assert canary.exists()
    canary.unlink()
    (folder,) = {path.parent for path in hurt.cache.rglob("head.json")}
    document = unseal_document((folder / "head.json").read_bytes())
    assert document is not None
    sums = [name for name in document if name.endswith("sha256")]
    for file in ("head.safetensors", "head.json", "history.csv"):
        whole = {path: path.read_bytes() for path in folder.iterdir()}
        overwrite(folder / file, song)
        if file == "head.safetensors":
            key = next(name for name in sums if document[name] == hashlib.sha256(whole[folder / file]).hexdigest())
            forged = {**document, key: hashlib.sha256(song).hexdigest()}
            overwrite(folder / "head.json", seal_document(forged))
        try:
            linear.load_head(folder)
            read = True
        except CacheError:
            read = False
        assert not read or file == "history.csv"  # which no head is read from
        assert hurt.verify()
        assert not canary.exists()
        saw(f"pickle in {file}", "refused or not read; not executed")
        for path, data in whole.items():
            overwrite(path, data)
    assert hurt.verify() == []


@pytest.mark.fault(16)
def test_weights_that_carry_pickle(small, tmp_path, saw):
    """A checkpoint that would run code when it is unpickled: exit 5 (weights out of reach) or 2, nothing executed."""
    import torch

    canary = tmp_path / "canary"
    for name, save in (
        ("plain.pth", lambda path: path.write_bytes(pickle.dumps(Canary(canary)))),
        ("zip.pth", lambda path: torch.save({"conv_proj.weight": Canary(canary)}, path)),
    ):
        save(tmp_path / name)
        world = World(small.images, tmp_path / "cache", tmp_path / name)
        with pytest.raises(FeatcacheError) as told:
            world.extract()
        assert told.value.exit_code in (2, 3, 4, 5)
        assert not canary.exists()
        saw("pickle in a file of weights", "refused; not executed")
