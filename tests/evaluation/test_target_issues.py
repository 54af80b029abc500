"""Labels and numbers in doubt: what was made wrong on purpose is found, and little else."""

import csv
import json

import numpy as np
import pytest

import featcache
from featcache.evaluation.target_issues import doubtful_cells
from featcache.evaluation.target_predictions import TargetPredictions
from tests.conftest import single_thread
from tests.target_rows import NAMES, draw_targets, record_targets, type_in_process

one_thread = pytest.fixture(autouse=True)(single_thread)
typed = pytest.fixture(type_in_process)
pytest.importorskip("cleanlab")
ROWS = 200
FAST = {"lr": 0.3, "epochs": 20, "batch_size": 16, "device": "cpu"}


def made_wrong(kind, tmp_path):
    """The options of a data set of 200 rows with 12 wrong cells, and which (row, output) these are."""
    _, values = draw_targets(kind, ROWS, 0, 0.3)
    rng = np.random.default_rng(5)
    cells = {(int(row), number % 3) for number, row in enumerate(rng.choice(ROWS, 12, replace=False))}
    for row, output in cells:
        spread = values[:, output].std()
        values[row, output] = 1 - values[row, output] if kind == "labels" else values[row, output] + 4 * spread
    return record_targets(tmp_path, kind, {"train": ROWS}, values={"train": values}), cells


@pytest.mark.parametrize("kind", ["labels", "value"])
def test_wrong_labels_and_numbers_are_found(kind, tmp_path):
    """Of 12 wrong cells among 600 at least 9 are named, and of those named at least half are wrong."""
    where, cells = made_wrong(kind, tmp_path)
    found = featcache.find_target_issues(5, **FAST, **where)
    named = {(int(issue.path.split("/")[1].removesuffix(".png")), NAMES.index(issue.name)) for issue in found.issues}
    assert len(named & cells) >= 9
    assert len(named & cells) >= 0.5 * len(named)
    assert found.cells == 3 * ROWS
    document = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert len(document["issues"]) == len(found.issues)


def test_labels_in_doubt_are_those_of_cleanlabs_own_function():
    """Label by label the rows that its filter for several labels names; a label that all rows have is left out."""
    from cleanlab.multilabel_classification.filter import find_multilabel_issues_per_class

    rng = np.random.default_rng(0)
    truth = (rng.random((150, 3)) < 0.4).astype(float)
    answers = np.clip(np.where(truth > 0, 0.8, 0.2) + 0.15 * rng.standard_normal(truth.shape), 0.01, 0.99)
    wrong = rng.choice(150, 12, replace=False)
    truth[wrong, 0] = 1 - truth[wrong, 0]
    part = predictions("labels", truth, answers)
    mask = find_multilabel_issues_per_class([np.flatnonzero(row).tolist() for row in truth], answers, n_jobs=1)
    assert {cell for cell in doubtful_cells(part) if cell[1] < 3} == set(zip(*np.nonzero(mask), strict=True))
    everywhere = predictions("labels", np.ones((150, 1)), answers[:, :1])
    assert doubtful_cells(everywhere) == []


def test_numbers_in_doubt_do_not_depend_on_their_unit():
    """Neither on an offset that all answers have; the largest error comes first; equal errors are in no doubt."""
    rng = np.random.default_rng(1)
    truth, error = rng.standard_normal((120, 1)), 0.1 * rng.standard_normal((120, 1))
    error[[7, 30]] = [[2], [-3]]
    expected = [(30, 0), (7, 0)]
    for unit, offset in ((1, 0), (1e6, 5), (1e-6, -1)):
        part = predictions("value", unit * truth, unit * (truth + error + offset))
        assert doubtful_cells(part) == expected
    assert doubtful_cells(predictions("value", truth, truth + 1)) == []


def predictions(kind, truth, answers):
    """Answers of heads on rows that nobody names."""
    none, names = ("",) * len(truth), tuple(f"n{place}" for place in range(truth.shape[1]))
    return TargetPredictions(
        kind=kind, names=names, by="image", truth=truth, answers=answers, thresholds=np.full(truth.shape[1], 0.5),
        paths=none, clips=none, subjects=none,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["labels", "value"])
def test_terminal_table_page_and_json_have_the_same_cells(kind, tmp_path, typed):
    """`data --label-issues` prints them, and writes CSV and a page."""
    where, _ = made_wrong(kind, tmp_path)
    with open(where["pipeline"], "a") as file:
        file.write("[head]\nlr = 0.3\nepochs = 5\nbatch_size = 16\n")
    words = ["data", "--label-issues", "--pipeline", where["pipeline"], "--cache", where["cache"]]
    told = typed(*words, "--csv", tmp_path / "issues.csv", "--html", tmp_path / "issues.html")
    assert told.code == 0, told.err
    with (tmp_path / "issues.csv").open() as file:
        rows = list(csv.DictReader(file))
    noun = "label" if kind == "labels" else "number"
    assert f"{len(rows)} of 600 {noun}s of train are in doubt (200 images, 3 {noun}s each)" in " ".join(
        told.out.split()
    )
    document = json.loads(typed(*words, "--json").out)["label_issues"]
    assert (
        [(row["path"], row[noun]) for row in rows]
        == [(issue["path"], issue[noun]) for issue in document["issues"]]
        != []
    )
    page = (tmp_path / "issues.html").read_text()
    assert all(row["path"] in page for row in rows)
