"""The short names of heads: #1, #2, … and those that a person gave; they stand for a head wherever it is named."""

import json

import pytest

import featcache
from featcache.dataset.request import DatasetRequest
from featcache.errors import CacheError, UsageError
from featcache.files.sealed import seal_line
from featcache.heads.saved import folders, run_log
from featcache.heads.saved.find import find_head
from featcache.heads.saved.handles import Handles, handles_of, refuse_given_name
from tests.builders import fit_head, record_clusters

WHERE = {"data": "/data/toy"}


def numbers(cache):
    return {head.name: head.number for head in featcache.compare(**WHERE, cache=cache).heads}


def log_path(cache):
    store = DatasetRequest(**WHERE, cache=cache).stores()[0]
    return folders.heads_folder(store, "toy", "all") / run_log.RUNS


def strip_handles(path):
    """Rewrite a log of runs as earlier versions wrote it."""
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    kept = [{k: v for k, v in line.items() if k not in ("crc32", "numbers", "given_name")} for line in lines]
    path.write_bytes(b"".join(seal_line(line) for line in kept))


def test_a_head_keeps_the_number_of_its_first_training(tmp_path):
    """Heads are numbered as they are trained; training one again, alone or among others, changes no number."""
    record_clusters(tmp_path, "train", "val")
    names = [head.name for head in fit_head(tmp_path, [0.1, 0.2]).heads]
    fit_head(tmp_path, [0.2, 0.05, 0.1])
    assert [numbers(tmp_path)[name] for name in names] == [1, 2]
    assert sorted(numbers(tmp_path).values()) == [1, 2, 3]
    assert find_head(DatasetRequest(**WHERE, cache=tmp_path), "#2").folder.name == names[1]
    assert find_head(DatasetRequest(**WHERE, cache=tmp_path), "2").folder.name == names[1]


def test_the_heads_of_an_earlier_version_have_numbers_that_the_next_run_records(tmp_path):
    """They are counted in the order of their runs; once recorded, a line that is taken out moves none of the others."""
    record_clusters(tmp_path, "train", "val")
    first, second = (fit_head(tmp_path, lr).best.name for lr in (0.1, 0.2))
    strip_handles(log_path(tmp_path))
    assert (numbers(tmp_path)[first], numbers(tmp_path)[second]) == (1, 2)
    third = fit_head(tmp_path, 0.3).best.name
    log_path(tmp_path).write_bytes(b"".join(log_path(tmp_path).read_bytes().splitlines(keepends=True)[1:]))
    assert numbers(tmp_path) == {second: 2, third: 3}


def test_a_given_name_stands_for_the_best_head_of_the_run_and_moves_with_a_note(tmp_path):
    """The newest run that gives a name has it; the head that had it keeps its number."""
    record_clusters(tmp_path, "train", "val")
    first = fit_head(tmp_path, 0.1, head_name="baseline")
    request = DatasetRequest(**WHERE, cache=tmp_path)
    assert find_head(request, "baseline").folder.name == first.best.name
    assert not any("baseline" in note for note in first.notes)
    second = fit_head(tmp_path, 0.2, head_name="baseline")
    assert find_head(request, "baseline").folder.name == second.best.name
    assert f"baseline stood for head #1 ({first.best.name}) until now; it stands for #2 from here on" in second.notes


def test_a_misspelt_name_proposes_the_three_nearest(tmp_path):
    """With their numbers, and how to see all."""
    record_clusters(tmp_path, "train", "val")
    fit_head(tmp_path, [0.1, 0.2, 0.3, 0.4])
    fit_head(tmp_path, 0.5, head_name="baseline")
    request = DatasetRequest(**WHERE, cache=tmp_path)
    with pytest.raises(CacheError, match="no head is called 'basline'; the nearest: #5 baseline ") as error:
        find_head(request, "basline")
    assert str(error.value).count("#") == 3
    assert "`featcache compare /data/toy" in str(error.value)
    assert "lists all 5" in str(error.value)


def test_a_misspelt_best_or_latest_is_meant(tmp_path):
    """The command that is advised has the word; the name of a split is neither, and a given name comes first."""
    record_clusters(tmp_path, "train", "val")
    fit_head(tmp_path, 0.1)
    request = DatasetRequest(**WHERE, cache=tmp_path)
    for typed, word in (("bset", "best"), ("lastest", "latest")):
        with pytest.raises(CacheError, match=f"no head is called '{typed}'; did you mean {word}") as error:
            find_head(request, typed)
        assert [(correction.wrong, correction.right) for correction in error.value.corrections] == [(typed, word)]
    with pytest.raises(CacheError, match="no head is called 'test', which is a split: name it behind --split"):
        find_head(request, "test")
    fit_head(tmp_path, 0.2, head_name="base")
    with pytest.raises(CacheError, match="no head is called 'bse'; the nearest: #2 base"):
        find_head(request, "bse")


def test_a_number_that_no_head_has_is_answered_with_those_that_there_are(tmp_path):
    """Not with heads of a similar spelling."""
    record_clusters(tmp_path, "train", "val")
    fit_head(tmp_path, [0.1, 0.2])
    for word in ("#9", "9"):
        with pytest.raises(CacheError, match="there is no head #9; there are #1 to #2; `featcache compare"):
            find_head(DatasetRequest(**WHERE, cache=tmp_path), word)


def test_the_numbers_of_heads_are_named_as_ranges():
    """A gap begins a new range."""
    handles = Handles({"a": 1, "b": 2, "c": 3, "d": 7})
    assert handles.ranges("abcd") == "#1 to #3, #7"


def test_a_number_that_two_stores_gave_at_once_is_ambiguous():
    """Two runs in two stores may record one number in the same instant: both heads are named, none is guessed."""
    handles = Handles({"one": 4, "two": 4})
    assert handles.matches("#4", ["one", "two"]) == ["one", "two"]


def test_a_number_that_is_recorded_is_never_given_to_another_head():
    """A run without numbers, which an earlier version wrote between two others, takes the next free one."""
    runs = [
        run_log.FitRun(1, ("a",), "a", "", numbers={"a": 1}),
        run_log.FitRun(2, ("b",), "b", ""),
        run_log.FitRun(3, ("c",), "c", "", numbers={"c": 2}),
    ]
    assert handles_of(runs).numbers == {"a": 1, "b": 3, "c": 2}


@pytest.mark.parametrize("name", ["best", "latest", "#3", "3", "a/b", "", "a" * 41, "a b", "..", "lr0.1", "x-1a2b3c4d"])
def test_a_name_that_could_mean_something_else_is_refused(name):
    """A word, a number, a path, what a shell would take apart, what heads are called by their settings; the name that
    is proposed instead is none of these.
    """
    with pytest.raises(UsageError, match="--head-name") as error:
        refuse_given_name(name)
    (correction,) = error.value.corrections
    refuse_given_name(correction.right)
