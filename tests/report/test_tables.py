"""The CSV file, and how a report's files come to lie where they were asked for."""

import csv
import io
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcache.errors import MachineError, UsageError
from featcache.evaluation.evaluation import Evaluation
from featcache.metrics.bootstrap import Interval, Intervals
from featcache.report.tables import check_destination, save_bytes, save_evaluation_csv

HOSTILE = (
    "=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "＝1", "a\nb", "\x1b[2J",
    "\u202etxt", "caf\udce9", 'quote"d', "com,ma", "semi;colon", "[bold]", "<script>", "$x$", "漢字",
    "🐜", "x" * 300,
)  # fmt: skip


def an_evaluation(confusion, classes):
    confusion = np.asarray(confusion, dtype=np.int64)
    return Evaluation(head="h", data_set="d", split="test", classes=classes, confusion=confusion)


def rows_of(path):
    return list(csv.reader(io.StringIO(path.read_bytes().decode("utf-8"), newline="")))


def test_one_row_a_class_then_the_counts(tmp_path):
    """Each class has a line: support, recall, precision, F1 and its row of the matrix, in class order."""
    path = tmp_path / "report.csv"
    save_evaluation_csv(an_evaluation([[3, 1, 0], [2, 6, 0], [0, 0, 0]], ("ants", "bees", "wasps")), path)
    assert path.read_text(encoding="utf-8") == (
        "class,support,recall,recall_low,recall_high,recall_interval,precision,f1,"
        "predicted: ants,predicted: bees,predicted: wasps\n"
        "ants,4,0.75,,,,0.6,0.6666666666666666,3,1,0\n"
        "bees,8,0.75,,,,0.8571428571428571,0.8,2,6,0\n"
        "wasps,0,,,,,,,0,0,0\n"
    )


def test_the_intervals_of_recall_stand_in_it(tmp_path):
    """Low and high beside the recall of each class; where a class's groups are too few it says so, and only there."""
    found = Intervals("subject", 3, 10_000, 0.95, "m", None, None, (Interval(0.25, 0.5), None, None))
    counts = [[1, 2, 0], [0, 0, 0], [0, 0, 2]]
    save_evaluation_csv(replace(an_evaluation(counts, ("a", "b", "c")), intervals=found), tmp_path / "report.csv")
    assert [row[2:6] for row in rows_of(tmp_path / "report.csv")[1:]] == [
        [str(1 / 3), "0.25", "0.5", ""], ["", "", "", ""], ["1.0", "", "", "too few"],
    ]  # fmt: skip


def test_hostile_names_are_inert(tmp_path):
    """No cell starts a formula or holds a control character, and every class is one line of UTF-8."""
    path = tmp_path / "report.csv"
    save_evaluation_csv(an_evaluation(np.eye(len(HOSTILE)), HOSTILE), path)
    text = path.read_bytes().decode("utf-8")
    assert len(text.splitlines()) == 1 + len(HOSTILE)
    rows = rows_of(path)
    assert {len(row) for row in rows} == {8 + len(HOSTILE)}
    for cell in (cell for row in rows for cell in row):
        assert cell.isprintable()
        assert not cell.lstrip().startswith(("=", "+", "-", "@", "＝"))
    shown = [row[0] for row in rows[1:]]
    assert shown[0] == "'" + HOSTILE[0]
    assert shown[HOSTILE.index("a\nb")] == r"a\nb"
    assert shown[HOSTILE.index("caf\udce9")] == r"caf\udce9"
    assert shown[HOSTILE.index("com,ma")] == "com,ma"
    assert rows[0][8 + HOSTILE.index("漢字")] == "predicted: 漢字"


@given(name=st.text(st.characters(), min_size=1, max_size=8))
def test_any_name_at_all_makes_one_inert_line(tmp_path_factory, name):
    """Whatever a class is called, surrogates included, the file has one line for it that runs nothing."""
    path = tmp_path_factory.mktemp("csv") / "report.csv"
    save_evaluation_csv(an_evaluation([[2]], (name,)), path)
    (_, row) = rows_of(path)
    assert row[1:] == ["2", "1.0", "", "", "", "1.0", "1.0", "2"]
    assert row[0].isprintable()
    assert not row[0].lstrip().startswith(("=", "+", "-", "@"))
    assert len(path.read_bytes().decode().splitlines()) == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("report.txt", "expected a name that ends in .csv"),
        ("report", "expected a name that ends in .csv"),
        ("missing/report.csv", "there is no folder .*missing.*(Name|Make)"),
        ("folder.csv", "is a folder.*(Name|Make)"),
        ("file/report.csv", "there is no folder.*(Name|Make)"),
    ],
)
def test_a_destination_that_cannot_be_is_refused_with_the_way_out(tmp_path, name, message):
    """A wrong suffix, a missing folder and a folder for a file are UsageErrors that say what to do."""
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=message):
        save_evaluation_csv(an_evaluation([[1]], ("a",)), tmp_path / name)


def test_a_suffix_in_capitals_will_do(tmp_path):
    """REPORT.CSV is a CSV file."""
    check_destination(tmp_path / "REPORT.CSV", ".csv")


def test_errors_show_hostile_paths_inert(tmp_path):
    """A path with an escape sequence in it does not reach the terminal as one."""
    with pytest.raises(UsageError) as caught:
        check_destination(tmp_path / "\x1b[2J\udce9" / "a.csv", ".csv")
    assert str(caught.value).isprintable()


def test_a_reader_never_sees_half_a_file(tmp_path):
    """Who has the old file open reads it to its end: the new one takes its name, not its bytes."""
    path = tmp_path / "report.csv"
    path.write_bytes(b"old")
    with path.open("rb") as reader:
        save_bytes(path, b"new")
        assert reader.read() == b"old"
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("death", [KeyboardInterrupt, MemoryError])
def test_dying_mid_write_leaves_the_old_file(tmp_path, monkeypatch, death):
    """A write that dies before its bytes are on the disk leaves the previous file and no litter."""
    path = tmp_path / "report.csv"
    path.write_bytes(b"old")

    def die(_):
        raise death

    monkeypatch.setattr(os, "fsync", die)
    with pytest.raises(death):
        save_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_a_machine_error_that_leaves_the_old_file(tmp_path, monkeypatch):
    """ENOSPC becomes a MachineError that names file and reason; the old file stands, without litter."""
    path = tmp_path / "report.csv"
    path.write_bytes(b"old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MachineError, match=r"report\.csv: cannot be written \(No space left on device\)"):
        save_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that even root cannot write to")
def test_a_folder_that_cannot_be_written_to_is_a_machine_error():
    """A folder that refuses new files gives a MachineError, not a traceback."""
    with pytest.raises(MachineError, match="cannot be written"):
        save_evaluation_csv(an_evaluation([[1]], ("a",)), Path("/proc/self/report.csv"))


def test_the_longest_file_name_can_be_written(tmp_path):
    """A name as long as the file system takes can be written: the scratch file's is not longer."""
    path = tmp_path / ("x" * 251 + ".csv")
    save_bytes(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_name_that_is_not_utf8_can_be_written(tmp_path):
    """A path of bytes that are not UTF-8 is a path like any other, where the file system allows it."""
    path = tmp_path / os.fsdecode(b"caf\xe9.csv")
    try:
        path.touch()
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    save_evaluation_csv(an_evaluation([[1]], ("a",)), path)
    assert path.read_bytes().startswith(b"class,")
