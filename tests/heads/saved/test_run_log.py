"""The log of fit-heads: every run in its order, and no crash hides one."""

import pytest

from featcache.errors import CacheError
from featcache.files.sealed import seal_line
from featcache.heads.saved import folders, linear, run_log
from tests.builders import new_store, one_row, random_head


@pytest.fixture
def store(tmp_path):
    return new_store(tmp_path)


@pytest.fixture
def kept(store):
    return linear.save_head(store, random_head(), one_row(), one_row("val"))


def test_runs_are_kept_in_order_and_a_torn_line_costs_itself_alone(store, kept):
    """A fit-head that was killed while it wrote its line hides neither the runs before it nor the next one."""
    assert run_log.read_runs(store, "toy", "all") == []
    log = folders.heads_folder(store, "toy", "all") / run_log.RUNS
    run_log.record_run(store, one_row(), [kept], best=kept.name, seconds=1.0)
    whole = log.read_bytes()
    for cut in range(1, len(whole) - 1, 7):
        log.write_bytes(whole + whole[:cut])
        run_log.record_run(store, one_row(), [kept], best=None, selected_by="macro recall on val", seconds=1.0)
        found = run_log.read_runs(store, "toy", "all")
        assert [(run.best, run.selected_by) for run in found] == [(kept.name, ""), (None, "macro recall on val")]
        assert found[0].at < found[1].at


def test_which_run_is_the_newest_is_not_guessed_over_a_damaged_line(store, kept):
    """The error names the line; who names a head, or asks for all, gets the lines that hold."""
    log = folders.heads_folder(store, "toy", "all") / run_log.RUNS
    for _ in range(3):
        run_log.record_run(store, one_row(), [kept], best=kept.name, seconds=1.0)
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(lines[0] + lines[1][:9] + b"~" + lines[1][10:] + lines[2])
    with pytest.raises(CacheError, match="line 2 is damaged"):
        run_log.read_runs(store, "toy", "all")
    assert len(run_log.read_runs(store, "toy", "all", newest=False)) == 2


@pytest.mark.parametrize("name", ["..", "a/b", "/etc"])
def test_a_name_that_leads_elsewhere_is_refused(store, kept, name):
    """A log can come from anybody, and a head's name becomes a path."""
    (log := folders.heads_folder(store, "toy", "all") / run_log.RUNS).parent.mkdir(parents=True, exist_ok=True)
    log.write_bytes(seal_line({"at": 1, "heads": [name], "best": None, "selected_by": "", "check": None, "seconds": 0}))
    with pytest.raises(CacheError, match="not the name of a head"):
        run_log.read_runs(store, "toy", "all")
