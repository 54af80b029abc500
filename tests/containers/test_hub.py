"""Names of data sets of the Hub, and where they lie once they were fetched."""

import pytest

import featcache.containers.hub_files as hub_files
from featcache.containers import fetch_hub, hub_folder, is_hub_name, list_streamed, pin_commit
from featcache.containers.hub import parse_hub_name
from featcache.containers.hub_files import HubPlace, is_streamed, parse_streamed
from featcache.errors import UsageError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("hf://beans", ("beans", None, "")),
        ("hf://AI-Lab/beans", ("AI-Lab/beans", None, "")),
        ("hf://AI-Lab/beans@v1.0/default/train/", ("AI-Lab/beans", "v1.0", "default/train")),
    ],
)
def test_a_name_says_repository_revision_and_folder(path, expected):
    """The owner may be missing, as it is of old data sets."""
    assert is_hub_name(path)
    assert parse_hub_name(path) == expected


@pytest.mark.parametrize(
    "path", ["hf://", "hf://a b", "hf://../x", "hf://o/n/../../x", "hf://o/n@", "hf://o/n@..", "hf://o/n?x=1"]
)
def test_what_is_no_name_is_refused(path):
    """Nothing in a name can lead out of Hugging Face's cache."""
    with pytest.raises(UsageError, match="expected hf://OWNER/NAME"):
        parse_hub_name(path)


@pytest.mark.parametrize("path", ["hf://a--b/c", "hf://-a/b", "hf://a/b.", f"hf://{'a' * 100}/b", "hf://\u00e4/b"])
def test_a_name_that_the_hub_has_for_nobody_is_refused(path):
    """Exit 2: a typo is no fault of featcache, and the Hub is not asked."""
    pytest.importorskip("huggingface_hub")
    with pytest.raises(UsageError, match="expected hf://OWNER/NAME"):
        fetch_hub(path)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("hf://datasets/AI-Lab/beans", ("AI-Lab/beans", None, "")),
        ("hf://datasets/AI-Lab/beans@v1.0/data/", ("AI-Lab/beans", "v1.0", "data")),
        ("hf://datasets/AI-Lab/beans/data/train-*.parquet", ("AI-Lab/beans", None, "data/train-*.parquet")),
    ],
)
def test_a_place_on_the_hub_is_written_as_pandas_writes_it(path, expected):
    """`datasets` before the owner says that files are read there, and not fetched first."""
    assert is_streamed(path)
    assert parse_streamed(path) == HubPlace(*expected)


@pytest.mark.parametrize(
    "path", ["hf://datasets/beans", "hf://datasets/o/../x", "hf://datasets/o/n/../../x", "hf://datasets/"]
)
def test_what_is_no_place_on_the_hub_is_refused(path):
    """Owner and name are both needed, and nothing leads upwards."""
    with pytest.raises(UsageError, match="expected hf://datasets/OWNER/NAME"):
        parse_streamed(path)


def test_the_snapshot_that_was_fetched_is_meant(tmp_path, monkeypatch):
    """`main` is the commit that it was when it was fetched; a folder without Parquet files is none."""
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    home = tmp_path / "hub/datasets--o--n"
    (home / "refs").mkdir(parents=True)
    (home / "refs/main").write_text(COMMIT)
    (home / "snapshots" / COMMIT).mkdir(parents=True)
    assert hub_folder("hf://o/n") is None
    (home / "snapshots" / COMMIT / "a.parquet").touch()
    assert hub_folder("hf://o/n") == str(home / "snapshots" / COMMIT)
    (home / "refs/main").write_text("../../../up")
    assert hub_folder("hf://o/n") is None


def test_a_star_ends_at_a_slash(monkeypatch):
    """A pattern names files of one folder, as in a bucket; another process gets the commit that this one saw."""
    files = dict.fromkeys(("data/a.parquet", "data/other/b.parquet", "c.parquet"), (1, 0, 0, 0))
    monkeypatch.setattr(hub_files, "_open_repository", lambda _: hub_files._Repository(COMMIT, files))
    assert list(list_streamed("hf://datasets/o/n/data/*.parquet")) == ["data/a.parquet"]
    assert list(list_streamed("hf://datasets/o/n/data")) == ["data/a.parquet", "data/other/b.parquet"]
    assert pin_commit("hf://datasets/o/n@main/data/a.parquet") == f"hf://datasets/o/n@{COMMIT}/data/a.parquet"
    assert pin_commit("/here/a.parquet") == "/here/a.parquet"
