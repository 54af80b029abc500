"""What is remembered of files, and when it is not believed."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcache.errors import MachineError
from featcache.files.file_stat import is_racy, now_ns, read_file_stat, to_file_stat
from featcache.files.known_files import KnownFile, KnownFiles
from featcache.files.sealed import seal_line
from featcache.files.stat_log import STAT_LOG_NAME, StatLog

DIGEST = bytes(range(32))
LATER = 10**10  # nanoseconds: far enough from a file's times that none is racy


def an_image(folder: Path, name: str = "1.png", data: bytes = b"pixels") -> str:
    path = folder / name
    path.write_bytes(data)
    return str(path)


def remember(log: StatLog, path: str, digest: bytes = DIGEST, reason: str = "") -> None:
    status = read_file_stat(path)
    assert status is not None
    log.remember(path, status, digest, reason, read_at=now_ns() + LATER)


def test_what_was_flushed_is_known_to_the_next_process(tmp_path):
    """Digest and reason come back for a file that did not change; nothing is known before the flush."""
    good, bad = an_image(tmp_path, "good.png"), an_image(tmp_path, "bad.png")
    log = StatLog(tmp_path / "cache")
    remember(log, good)
    remember(log, bad, bytes(32), "the file is empty")
    assert StatLog(tmp_path / "cache").look_up([good, bad]) == [None, None]
    log.flush()
    found = StatLog(tmp_path / "cache").look_up([bad, good, str(tmp_path / "none.png")])
    assert [known and (known.digest, known.reason) for known in found] == [
        (bytes(32), "the file is empty"),
        (DIGEST, ""),
        None,
    ]


def test_any_file_name_is_remembered(tmp_path):
    """Names that are no UTF-8, hold a newline, quotes or bidi controls come back as they are."""
    names = [os.fsdecode(b"caf\xe9.png"), "two\nlines.png", '"quoted".png', "‮gnp.exe", "e\u0301.png", "é.png"]
    paths = [an_image(tmp_path, name) for name in names]
    log = StatLog(tmp_path / "cache")
    for number, path in enumerate(paths):
        remember(log, path, bytes([number]) * 32)
    log.flush()
    found = StatLog(tmp_path / "cache").look_up(paths)
    assert [known.digest[0] for known in found if known] == list(range(len(names)))


def touched(path: str) -> None:
    os.utime(path)


def grown(path: str) -> None:
    with open(path, "ab") as file:
        file.write(b"!")


def edited_in_place(path: str) -> None:
    """Other bytes, the same size, and the same mtime put back: what a careless tool, or a careful liar, does."""
    before = os.stat(path)
    with open(path, "r+b") as file:
        file.write(b"P")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (os.stat(path).st_size, os.stat(path).st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def replaced(path: str) -> None:
    os.rename(an_image(Path(path).parent, "scratch"), path)


def gone(path: str) -> None:
    os.unlink(path)


def a_folder_now(path: str) -> None:
    os.unlink(path)
    os.mkdir(path)


@pytest.mark.parametrize("change", [touched, grown, edited_in_place, replaced, gone, a_folder_now])
def test_a_file_that_changed_is_not_known(tmp_path, change):
    """Touched, grown, edited with size and mtime kept, replaced, gone: none of them is taken for what was read."""
    path = an_image(tmp_path)
    log = StatLog(tmp_path / "cache")
    remember(log, path)
    assert log.look_up([path]) != [None]
    change(path)
    assert log.look_up([path]) == [None]


def test_a_hard_link_in_another_place_is_another_file(tmp_path):
    """Only the path that was read is known; the same inode elsewhere is read once more."""
    path = an_image(tmp_path)
    log = StatLog(tmp_path / "cache")
    os.link(path, tmp_path / "2.png")
    remember(log, path)
    assert log.look_up([str(tmp_path / "2.png")]) == [None]


def test_a_file_that_has_just_been_written_is_not_trusted(tmp_path):
    """A stat younger than the clock's grain could stand for two contents, so it is not noted."""
    path = an_image(tmp_path)
    log = StatLog(tmp_path / "cache")
    status = read_file_stat(path)
    log.remember(path, status, DIGEST, read_at=max(status[1], status[2]) + 1_000_000)
    assert log.look_up([path]) == [None]
    log.flush()
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("mtime", "ctime", "read_at", "expected"),
    [
        (1_000_000_001, 1_000_000_001, 1_020_000_002, False),
        (1_000_000_001, 1_000_000_001, 1_020_000_000, True),
        (1_000_000_001, 1_500_000_000, 1_510_000_000, True),  # changed after it was written
        (5_000_000_000, 5_000_000_000, 6_900_000_000, True),  # a file system of whole seconds
        (5_000_000_000, 5_000_000_000, 7_000_000_000, False),
        (9_000_000_001, 1_000_000_001, 2_000_000_000, True),  # an mtime from the future
    ],
)
def test_racy_is_decided_by_the_later_time_and_the_grain(mtime, ctime, read_at, expected):
    """20 ms, or 2 s where the times are whole seconds."""
    assert is_racy((1, mtime, ctime, 7), read_at) is expected


def test_the_newest_line_wins(tmp_path):
    """A file that was read twice is known by its last reading."""
    path = an_image(tmp_path)
    first, second = StatLog(tmp_path), StatLog(tmp_path)
    remember(first, path, bytes(32))
    first.flush()
    remember(second, path, DIGEST)
    second.flush()
    assert StatLog(tmp_path).look_up([path])[0].digest == DIGEST


def test_what_is_known_is_not_written_again(tmp_path):
    """Reading the same file in every run does not make the log grow."""
    path = an_image(tmp_path)
    for _ in range(3):
        log = StatLog(tmp_path)
        remember(log, path)
        log.flush()
    assert (tmp_path / STAT_LOG_NAME).read_bytes().count(b"\n") == 1


def test_a_torn_line_costs_itself_alone(tmp_path):
    """Wherever a crash cut the log, whole lines before it are known, and what is flushed after it too."""
    first, second, third = (an_image(tmp_path, f"{number}.png") for number in range(3))
    log = StatLog(tmp_path)
    remember(log, first)
    log.flush()
    whole = (tmp_path / STAT_LOG_NAME).stat().st_size
    remember(log, second)
    log.flush()
    data = (tmp_path / STAT_LOG_NAME).read_bytes()
    for cut in range(whole, len(data)):
        (tmp_path / STAT_LOG_NAME).write_bytes(data[:cut])
        after = StatLog(tmp_path)
        # A line that lost nothing but its newline is whole.
        assert [known is not None for known in after.look_up([first, second])] == [True, cut == len(data) - 1]
        remember(after, third)
        after.flush()
        found = StatLog(tmp_path).look_up([first, second, third])
        assert [known is not None for known in found] == [True, cut == len(data) - 1, True]


def test_a_flipped_byte_costs_its_line_alone(tmp_path):
    """A damaged line is ignored, the others are believed, and no damage makes a file known by another digest."""
    paths = [an_image(tmp_path, f"{number}.png") for number in range(3)]
    log = StatLog(tmp_path)
    for number, path in enumerate(paths):
        remember(log, path, bytes([number]) * 32)
    log.flush()
    data = (tmp_path / STAT_LOG_NAME).read_bytes()
    for place in range(len(data)):
        (tmp_path / STAT_LOG_NAME).write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        found = StatLog(tmp_path).look_up(paths)
        hurt = data[:place].count(b"\n")
        newline = data[place : place + 1] == b"\n"
        for number, known in enumerate(found):
            if number == hurt or (newline and number == hurt + 1):
                assert known is None
            else:
                assert known.digest == bytes([number]) * 32


@pytest.mark.parametrize("entry", [{}, {"path": "/x"}, {"path": 3, "stat": [1], "digest": "zz", "reason": None}])
def test_a_line_of_another_make_is_ignored(tmp_path, entry):
    """A sealed line that says something else, a newer version's for example, is no reason to stop."""
    path = an_image(tmp_path)
    (tmp_path / STAT_LOG_NAME).write_bytes(seal_line(entry))
    log = StatLog(tmp_path)
    remember(log, path)
    log.flush()
    assert StatLog(tmp_path).look_up([path]) != [None]


def test_binary_garbage_is_an_empty_memory(tmp_path):
    """A log of random bytes costs a reading of the images, nothing else."""
    (tmp_path / STAT_LOG_NAME).write_bytes(bytes(range(256)) * 20)
    assert StatLog(tmp_path).look_up([an_image(tmp_path)]) == [None]


def test_a_reader_shrugs_where_a_writer_complains(tmp_path):
    """A cache that cannot be written to can be read: try_flush is silent, flush is exit class 5."""
    (tmp_path / "cache").write_bytes(b"a file, where a folder must stand")
    log = StatLog(tmp_path / "elsewhere")
    remember(log, an_image(tmp_path))
    log.path = tmp_path / "cache" / STAT_LOG_NAME
    log.try_flush()
    with pytest.raises(MachineError):
        log.flush()


def test_only_regular_files_have_a_stat(tmp_path):
    """Folders, FIFOs, dangling and looping links and names with NUL have none; a link to a file has the file's."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "link").symlink_to(an_image(tmp_path))
    for path in (tmp_path, tmp_path / "fifo", tmp_path / "dangling", tmp_path / "loop", tmp_path / "none"):
        assert read_file_stat(str(path)) is None
    assert read_file_stat("with\0nul") is None
    assert read_file_stat(str(tmp_path / "link")) == to_file_stat(os.stat(tmp_path / "1.png"))


def test_a_damaged_line_does_not_hide_the_one_that_it_replaced(tmp_path):
    """Where the newest reading of a file is damaged, an older one that still fits its stat is believed."""
    path = an_image(tmp_path)
    log = StatLog(tmp_path)
    remember(log, path)
    log.flush()
    old = (tmp_path / STAT_LOG_NAME).read_bytes()
    (tmp_path / STAT_LOG_NAME).write_bytes(old + old[:-6] + b"00" + old[-4:])
    assert StatLog(tmp_path).look_up([path])[0].digest == DIGEST


def test_a_line_is_believed_for_its_own_file_alone(tmp_path):
    """What stands before the stat names the file; the rest of a line that was sealed for another one does not."""
    one, other = an_image(tmp_path, "1.png"), an_image(tmp_path, "2.png")
    log = StatLog(tmp_path)
    remember(log, one)
    log.flush()
    line = (tmp_path / STAT_LOG_NAME).read_bytes().replace(b"1.png", b"2.png")
    (tmp_path / STAT_LOG_NAME).write_bytes(line)
    assert StatLog(tmp_path).look_up([one, other]) == [None, None]


@pytest.mark.parametrize(("together", "folders", "window"), [(4, 2, 64), (3, 1, 8), (1 << 16, 0, 1 << 16)])
def test_what_is_known_does_not_depend_on_how_it_is_looked_up(tmp_path, monkeypatch, together, folders, window):
    """One by one or many at once, from the lines of a folder or from the index of all, before and after a flush."""
    for name, value in (("_TOGETHER", together), ("_FOLDERS", folders), ("_WINDOW", window)):
        monkeypatch.setattr(f"featcache.files.stat_log.{name}", value)
    for folder in "abc":
        (tmp_path / folder).mkdir()
    paths = [an_image(tmp_path / "abc"[number % 3], f"{number}.png", bytes(number)) for number in range(30)]
    log = StatLog(tmp_path)
    assert log.look_up(paths) == [None] * 30
    for time in range(2):
        for number, path in enumerate(paths):
            remember(log, path, bytes([number + time]) * 32, "damaged" if number % 7 == 0 else "")
            if number % 11 == 0:
                log.flush()
    stats = [read_file_stat(path) for path in paths]
    expected = [
        KnownFile(status, bytes([number + 1]) * 32, "damaged" if number % 7 == 0 else "")
        for number, status in enumerate(stats)
    ]
    for known in (log, log.flush() or log, StatLog(tmp_path)):
        assert [known.find(path, status) for path, status in zip(paths, stats, strict=True)] == expected
        assert known.look_up([*paths, str(tmp_path / "none")]) == [*expected, None]
        assert [known.find(path, status) for path, status in zip(paths, stats, strict=True)] == expected


@given(
    st.lists(
        st.none()
        | st.builds(
            KnownFile,
            st.tuples(*[st.integers(-(2**63), 2**63 - 1)] * 3, st.integers(0, 2**64 - 1)),
            st.just(b"") | st.binary(min_size=32, max_size=32),
            st.sampled_from(["", "damaged", "empty"]),
            st.sampled_from(["", "t"]),
        ),
        max_size=8,
    ),
    st.integers(0, 8),
)
def test_files_in_arrays_are_those_of_a_list(files, cut):
    """Every number of a stat, digests of zeros beside none, reasons: as they were, also joined, copied and changed."""
    known = KnownFiles.join([KnownFiles.of(files[:cut]), KnownFiles.of(files[cut:])])
    assert (list(known), known.is_known.tolist()) == (files, [file is not None for file in files])
    copied = known.copy()
    turned = [files[row - 1] for row in range(len(files))]
    for row, file in enumerate(turned):
        copied[row] = file
    assert (copied, known) == (turned, files)
    copied.forget_reasons(copied.failed_otherwise("t"))
    expected = [file and (file.reason if file.transform == "t" else "") for file in turned]
    assert [file and file.reason for file in copied] == expected
