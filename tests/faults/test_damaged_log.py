"""A log whose lines are torn, doubled or damaged."""

import shutil

import pytest

import featcache
from featcache.errors import CacheError, FeatcacheError
from tests.faults.conftest import reopened
from tests.faults.world import lines_of, write_lines


@pytest.mark.fault(6)
def test_a_torn_last_line_at_every_length(hurt, small, saw):
    """The last line cut anywhere is ignored, whatever it was; the next run goes on and ends as the undisturbed one."""
    whole = lines_of(hurt)
    for kept in range(1, len(whole[-1]) - 1, 40):
        write_lines(hurt, [*whole[:-1], whole[-1][:kept]])
        assert hurt.committed() == small.committed()
        assert hurt.verify() == []
        saw("the last line of the log torn", "ignored; the next writer cuts it off")
    hurt.complete()
    assert lines_of(hurt) == whole


@pytest.mark.fault(6)
def test_duplicate_lines_are_harmless(hurt, small, saw):
    """Each line twice, in every order of the two, changes nothing."""
    whole = lines_of(hurt)
    for place in range(len(whole)):
        for again in range(place, len(whole)):
            write_lines(hurt, [*whole[: again + 1], whole[place], *whole[again + 1 :]])
            assert hurt.committed() == small.committed()
            hurt.same()
            assert hurt.verify() == []
            saw("a line of the log stands twice", "harmless")


@pytest.mark.fault(6)
def test_a_damaged_line_is_an_error_that_names_it(hurt, small, saw):
    """A byte of any line but a torn last one: load, verify and extract name the line; repair mends it."""
    whole = lines_of(hurt)
    for place, line in enumerate(whole):
        write_lines(hurt, [*whole[:place], line[:9] + b"~" + line[10:], *whole[place + 1 :]])
        with pytest.raises(CacheError, match=f"line {place + 1} is damaged"):
            reopened(hurt)
        assert any(f"line {place + 1}" in problem.message for problem in hurt.verify())
        with pytest.raises(FeatcacheError, match=f"line {place + 1}"):
            hurt.extract()
        featcache.repair(cache=hurt.cache)
        hurt.complete()
        assert hurt.committed() == small.committed()
        saw("a damaged line of the log", "an error that names it; repaired, extracted: complete")
        shutil.rmtree(hurt.cache)
        shutil.copytree(small.cache, hurt.cache)
