"""The memory of weights that were hashed before: believed while the file is the one that was hashed."""

import os
import time
from pathlib import Path

import pytest

from featcache.files.file_stat import now_ns, read_file_stat
from featcache.files.sealed import seal_document
from featcache.trunks.weights_memo import WEIGHTS_MEMO_NAME, WeightsMemo

SHA = "5d" * 32


def remember(
    cache: Path, arch: str, asked: str, file: Path | None, sha256: str = SHA, *, vouched: bool = False
) -> None:
    """As a run does that reads the file in between: the stat first."""
    read_at, before = now_ns(), read_file_stat(str(file)) if file else None
    WeightsMemo(cache).remember(arch, asked, file, sha256, vouched=vouched, before=before, read_at=read_at)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "nano.pth"
    path.write_bytes(b"tensors")
    os.utime(path, ns=(10**18, 10**18))
    time.sleep(0.03)  # a file younger than the clock's grain is not trusted
    return path


def test_a_file_that_did_not_change_is_known(tmp_path, weights):
    """The next process knows the hash of the same file for the same architecture, and for no other."""
    remember(tmp_path / "cache", "vit", str(weights), weights)
    memo = WeightsMemo(tmp_path / "cache")
    assert memo.find("vit", str(weights), weights, vouched=False) == SHA
    assert memo.find("other", str(weights), weights, vouched=False) is None
    assert memo.find("vit", "x", tmp_path / "other.pth", vouched=False) is None


def test_a_relative_path_is_the_same_file(tmp_path, weights, monkeypatch):
    """How the path was typed does not matter."""
    memo = WeightsMemo(tmp_path / "cache")
    remember(tmp_path / "cache", "vit", str(weights), weights)
    monkeypatch.chdir(tmp_path)
    assert memo.find("vit", "nano.pth", Path("nano.pth"), vouched=False) == SHA


def test_an_edited_or_missing_file_is_not_known(tmp_path, weights):
    """Other bytes with size and mtime kept, or no file: read and hash again."""
    memo = WeightsMemo(tmp_path / "cache")
    remember(tmp_path / "cache", "vit", str(weights), weights)
    weights.write_bytes(b"TENSORS")
    os.utime(weights, ns=(10**18, 10**18))
    assert memo.find("vit", str(weights), weights, vouched=False) is None
    weights.unlink()
    assert memo.find("vit", str(weights), weights, vouched=False) is None


def test_a_file_that_has_just_been_written_is_not_noted(tmp_path):
    """Within the clock's grain the same stat could stand for other tensors."""
    path = tmp_path / "new.pth"
    path.write_bytes(b"tensors")
    os.utime(path, ns=(time.time_ns() + 10**9,) * 2)
    remember(tmp_path / "cache", "vit", str(path), path)
    assert not (tmp_path / "cache").exists()


def test_a_file_read_within_the_grain_of_its_writing_is_not_noted_however_long_hashing_takes(tmp_path):
    """It could have been written once more while it was read, and show the same stat."""
    path = tmp_path / "new.pth"
    path.write_bytes(b"tensors")
    read_at, before = now_ns(), read_file_stat(str(path))
    time.sleep(0.05)
    memo = WeightsMemo(tmp_path / "cache")
    memo.remember("vit", str(path), path, SHA, vouched=False, before=before, read_at=read_at)
    assert memo.find("vit", str(path), path, vouched=False) is None
    memo.remember("vit", str(path), path, SHA, vouched=False, before=before, read_at=now_ns())
    assert memo.find("vit", str(path), path, vouched=False) == SHA


def test_a_published_name_stands_for_itself_where_its_file_is_missing(tmp_path, weights):
    """A cache that was moved to a machine without the weights knows them; a file of that name that differs does not."""
    memo = WeightsMemo(tmp_path / "cache")
    remember(tmp_path / "cache", "vit", "IMAGENET1K_V1", weights, vouched=True)
    assert memo.find("vit", "IMAGENET1K_V1", tmp_path / "none.pth", vouched=True) == SHA
    other = tmp_path / "damaged.pth"
    other.write_bytes(b"damaged")
    assert memo.find("vit", "IMAGENET1K_V1", other, vouched=True) is None


def test_weights_without_a_file_are_known_by_their_name(tmp_path):
    """Random weights: the name says which generator made them."""
    memo = WeightsMemo(tmp_path / "cache")
    remember(tmp_path / "cache", "vit", "random 0 torch 2", None)
    assert memo.find("vit", "random 0 torch 2", None, vouched=False) == SHA
    assert memo.find("vit", "random 0 torch 3", None, vouched=False) is None


def test_the_last_hash_of_a_name_wins_and_others_stay(tmp_path, weights):
    """One entry a name; remembering one forgets no other."""
    memo = WeightsMemo(tmp_path / "cache")
    remember(tmp_path / "cache", "vit", "random", None, "aa" * 32)
    remember(tmp_path / "cache", "vit", str(weights), weights, "bb" * 32)
    remember(tmp_path / "cache", "vit", "random", None, "cc" * 32)
    assert memo.find("vit", "random", None, vouched=False) == "cc" * 32
    assert memo.find("vit", str(weights), weights, vouched=False) == "bb" * 32


@pytest.mark.parametrize(
    "left", [b"", b"{}", b"\0" * 100, seal_document({"format": 2, "weights": 3}), seal_document({"other": 1})]
)
def test_a_damaged_memory_is_an_empty_one(tmp_path, left):
    """What is lost is hashed once more, and can be remembered again."""
    (tmp_path / WEIGHTS_MEMO_NAME).write_bytes(left)
    memo = WeightsMemo(tmp_path)
    assert memo.find("vit", "random", None, vouched=False) is None
    remember(tmp_path, "vit", "random", None)
    assert memo.find("vit", "random", None, vouched=False) == SHA


def test_a_file_that_was_replaced_while_it_was_hashed_is_not_known(tmp_path, weights):
    """The hash of the old tensors never stands for the new file, however old that one looks."""
    before = read_file_stat(str(weights))
    other = tmp_path / "other.pth"
    other.write_bytes(b"others")
    os.utime(other, ns=(10**18, 10**18))
    time.sleep(0.03)
    other.rename(weights)
    memo = WeightsMemo(tmp_path / "cache")
    time.sleep(0.03)
    memo.remember("vit", str(weights), weights, SHA, vouched=False, before=before, read_at=now_ns())
    assert memo.find("vit", str(weights), weights, vouched=False) is None
