"""Names of data sets of the Hub, and where they lie once they were fetched."""

import pytest

from featcache.containers import fetch_hub, hub_folder, is_hub_name
from featcache.containers.hub import parse_hub_name
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
