"""search: it finds better than its start, resumes, prunes, and says what it needs."""

import pytest

import featcache
from featcache import CacheError, UsageError
from featcache.heads.default_grid import default_batch_size
from tests.builders import record
from tests.heads.test_fit import SPLITS


def searched(cache, trials, **options):
    options = {"epochs": 4, "batch_size": 16, "check_seconds": None, "device": "cpu", **options}
    return featcache.search(trials, data="/data/toy", cache=cache, **options)


def test_search_finds_saves_and_resumes(tmp_path):
    """Trials are kept: the same call again adds only what is missing, and the best is trained and saved as any head."""
    record(tmp_path, SPLITS)
    first = searched(tmp_path, 6)
    assert (first.trials, first.new) == (6, 6)
    assert first.fit.best is not None
    assert (first.fit.best.folder / "head.json").is_file()
    assert first.fit.selected_by == "macro recall on val"
    again = searched(tmp_path, 6)
    assert (again.trials, again.new) == (6, 0)
    assert again.fit.best.name == first.fit.best.name
    more = searched(tmp_path, 20)
    assert (more.trials, more.new) == (20, 14)
    assert more.fit.best.head.val.macro_recall >= first.fit.best.head.val.macro_recall
    assert set(more.to_json()) >= {"heads", "check", "best", "trials", "new_trials", "pruned", "study"}


def test_a_flag_is_held_fixed_and_another_space_is_another_study(tmp_path):
    """What is given is not searched; trials of another space or epochs are not mixed in."""
    record(tmp_path, SPLITS)
    found = searched(tmp_path, 9, optimizer="adamw")
    assert found.fit.heads[0].head.config.optimizer == "adamw"
    assert searched(tmp_path, 2).new == 2
    assert searched(tmp_path, 2, epochs=5).new == 2


def test_pruning_stops_the_worse(tmp_path):
    """With enough epochs some trials are stopped early, and none of them is the best."""
    record(tmp_path, SPLITS)
    found = searched(tmp_path, 40, epochs=12)
    assert 0 < found.pruned < 40
    assert len(found.fit.best.head.history) == 12


def test_batches_suit_the_rows_where_no_size_is_given(tmp_path):
    """They are those of fit-head without a learning rate; a size that is given is what is typed."""
    record(tmp_path, SPLITS)
    rows = searched(tmp_path, 1, batch_size=None).fit.train_rows
    (head,) = searched(tmp_path, 1, batch_size=None).fit.heads
    assert head.head.config.batch_size == default_batch_size(rows) < rows
    (head,) = searched(tmp_path, 1, batch_size=1024).fit.heads
    assert head.head.config.batch_size == 1024


def test_a_study_of_an_earlier_version_goes_on(tmp_path):
    """It was begun on the declared default: the same command adds to it, with the batches that it has."""
    record(tmp_path, SPLITS)
    begun = searched(tmp_path, 3, batch_size=1024)
    on = searched(tmp_path, 4, batch_size=None)
    assert (on.study, on.new) == (begun.study, 1)
    assert on.fit.heads[0].head.config.batch_size == 1024


def test_refused(tmp_path):
    """No val split, no trials, and a damaged study are refused with the way out."""
    record(tmp_path, {"train": SPLITS["train"]})
    with pytest.raises(CacheError, match="featcache extract --split val"):
        searched(tmp_path, 3)
    with pytest.raises(UsageError, match="--trials"):
        searched(tmp_path, 0)
    record(tmp_path, SPLITS)
    searched(tmp_path, 1)
    (log,) = tmp_path.rglob("search-*.log")
    log.write_text("damaged\n" + log.read_text())
    with pytest.raises(CacheError, match="remove the file"):
        searched(tmp_path, 2)
