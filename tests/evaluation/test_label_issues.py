"""Labels in doubt: those that were flipped on purpose are found, and few others."""

import csv
import json

import numpy as np
import pytest

import featcache
from featcache import MachineError
from featcache.evaluation.label_issues import contradicted_labels
from tests.builders import record, record_clusters
from tests.conftest import scans, single_thread

one_thread = pytest.fixture(autouse=True)(single_thread)
DIGITS = tuple("0123456789")


def flipped_digits(rows: int, share: float):
    """The first scans as embeddings of 64 numbers, their labels, of which a share is another digit, and which are."""
    pictures, labels = scans()
    rng = np.random.default_rng(0)
    x = pictures[:rows].reshape(rows, 64).astype(np.float32) / 64
    is_flipped = np.zeros(rows, dtype=bool)
    is_flipped[rng.choice(rows, int(share * rows), replace=False)] = True
    y = labels[:rows].astype(np.int64)
    return x, np.where(is_flipped, (y + rng.integers(1, 10, rows)) % 10, y), is_flipped


def test_flipped_labels_of_digits_are_found(tmp_path):
    """Of 90 flipped labels among 900 at least 85 % are named, and of those named at least 85 % were flipped."""
    pytest.importorskip("cleanlab")
    x, y, is_flipped = flipped_digits(900, 0.1)
    record(tmp_path, {"train": (x[:700], y[:700]), "val": (x[700:], y[700:])}, classes=DIGITS)
    found = featcache.find_label_issues(data="/data/toy", cache=tmp_path, device="cpu")
    named = np.zeros(900, dtype=bool)
    named[found.rows] = True
    recall, precision = is_flipped[named].sum() / is_flipped.sum(), is_flipped[named].mean()
    assert recall >= 0.85
    assert precision >= 0.85
    doubt = [issue.of_label for issue in found.issues]
    assert doubt == sorted(doubt)
    assert all(issue.label != issue.suggested for issue in found.issues)
    _, labels = scans()
    right = [issue.suggested == str(labels[row]) for issue, row in zip(found.issues, found.rows.tolist(), strict=True)]
    assert np.mean(right) >= 0.8


def test_a_class_without_rows_is_no_class_of_the_search():
    """Probabilities of a class that no label has are left out: the same rows are in doubt as without the class."""
    pytest.importorskip("cleanlab")
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, 200)
    p = np.where(np.arange(2) == y[:, None], 0.9, 0.1)
    y[:15] = 1 - y[:15]
    wider = np.column_stack([p[:, :1] * 0.99, np.full(200, 0.01), p[:, 1:] * 0.99])
    expected = contradicted_labels(y, p)
    assert set(expected.tolist()) == set(range(15))
    assert set(contradicted_labels(y * 2, wider).tolist()) == set(expected.tolist())


def test_without_cleanlab_the_command_to_install_it_is_named(tmp_path, monkeypatch):
    """Before anything is trained."""
    record_clusters(tmp_path, "train", "val")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MachineError, match=r"pip install 'featcache\[cleanlab\]'"):
        featcache.find_label_issues(data="/data/toy", cache=tmp_path)


def test_terminal_table_page_and_json_have_the_same_rows(tmp_path, run):
    """`data --label-issues` prints them, writes CSV and a page, and refuses flags that are about counting."""
    pytest.importorskip("cleanlab")
    x, y, _ = flipped_digits(300, 0.1)
    record(tmp_path, {"train": (x, y)}, classes=DIGITS)
    words = ["data", "--label-issues", "--data", "/data/toy", "--cache", tmp_path]
    told = run(*words, "--csv", tmp_path / "issues.csv", "--html", tmp_path / "issues.html")
    assert told.code == 0, told.err
    document = json.loads(run(*words, "--json").out)["label_issues"]
    rows = list(csv.DictReader((tmp_path / "issues.csv").read_text().splitlines()))
    assert [row["path"] for row in rows] == [issue["path"] for issue in document["issues"]] != []
    assert f"{len(rows)} of 300 labels of train are in doubt" in told.out.replace("\n", " ")
    page = (tmp_path / "issues.html").read_text()
    assert all(row["path"] in page for row in rows)
    assert run(*words, "--near", "0.9").code == 2
    assert run("data", "--data", "/data/toy", "--cache", tmp_path, "--html", tmp_path / "issues.html").code == 2
