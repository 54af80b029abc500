"""A log of numbered objects says what a log of appended lines says."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featcache.errors import CacheError
from featcache.files import AppendLog, seal_line
from featcache.files.objects.bucket import Bucket, open_bucket
from featcache.files.objects.numbered_log import NumberedLog
from featcache.files.objects.object_path import ObjectPath

ENTRIES = st.lists(st.lists(st.dictionaries(st.text(max_size=5), st.integers(), max_size=2), max_size=3), max_size=6)


def contents(log: AppendLog) -> list[dict[str, Any]]:
    """What the lines of a log say; it has no damaged ones."""
    entries: list[dict[str, Any]] = []
    content = log.read(lambda entry: entries.append(entry) or "")
    assert content.damaged == ()
    return entries


def forget(place: ObjectPath) -> None:
    """Let the next reading be that of another process."""
    open_bucket(place).forget_log(place.key)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(ENTRIES)
def test_it_says_what_a_file_would_say(memory: ObjectPath, tmp_path: Path, groups: list[list[dict[str, int]]]) -> None:
    """Whatever is appended, in whatever groups, the lines that come back are those of a local log, byte for byte."""
    name = f"{id(groups)}-{len(list(tmp_path.iterdir()))}.jsonl"
    logs = AppendLog(tmp_path / name), AppendLog(memory / name)
    for log in logs:
        log.append(seal_line({"first": 1}))
        for group in groups:
            log.append(*map(seal_line, group))
    forget(memory / name)
    local, remote = (log.read(lambda _: "") for log in logs)
    assert local == remote


def test_eight_that_race_get_a_number_each(memory: ObjectPath) -> None:
    """Who loses a number reads on and takes the next: every line stands once, and no number is left out."""
    log, start = AppendLog(memory / "runs.jsonl"), threading.Barrier(8)

    def add(worker: int) -> None:
        start.wait()
        for number in range(5):
            log.append(seal_line({"worker": worker, "number": number}))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(8)))
    forget(log.path)  # type: ignore[arg-type]
    entries = contents(log)
    expected = [(worker, number) for worker in range(8) for number in range(5)]
    assert sorted((entry["worker"], entry["number"]) for entry in entries) == expected
    assert [path.name for path in (memory / "runs.jsonl").iterdir()] == [f"{n:012d}" for n in range(1, 41)]


def test_a_listing_that_lags_hides_nothing(memory: ObjectPath, monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects that a listing leaves out, in the middle and at the end, are asked for by their numbers."""
    log = AppendLog(memory / "commits.jsonl")
    for number in range(6):
        log.append(seal_line({"number": number}))
    forget(log.path)  # type: ignore[arg-type]
    listed = Bucket.list_folder

    def lag(bucket: Bucket, key: str) -> Any:
        folders, objects = listed(bucket, key)
        return folders, {name: version for name, version in objects.items() if int(name) in (1, 4)}

    monkeypatch.setattr(Bucket, "list_folder", lag)
    assert [entry["number"] for entry in contents(log)] == list(range(6))


def test_a_number_far_behind_the_others_is_refused(memory: ObjectPath) -> None:
    """One object that somebody put there does not have a million millions of others asked for."""
    bucket, log = open_bucket(memory), memory / "commits.jsonl"
    bucket.overwrite(f"{log.key}/000000000001", seal_line({"number": 1}))
    bucket.overwrite(f"{log.key}/999999999999", seal_line({"number": 2}))
    with pytest.raises(CacheError, match="999,999,999,997 objects before number 999,999,999,999 are missing"):
        NumberedLog(log).read()


def test_an_object_that_is_gone_is_damage(memory: ObjectPath) -> None:
    """A number that is missing between others is a damaged line; nothing behind it is taken for its place."""
    log = AppendLog(memory / "commits.jsonl")
    for number in range(3):
        log.append(seal_line({"number": number}))
    (memory / "commits.jsonl" / f"{2:012d}").unlink()
    forget(log.path)  # type: ignore[arg-type]
    content = log.read(lambda _: "")
    assert [number for number, _ in content.damaged] == [2]
    assert len(content.lines) == 2

    log.rewrite(content.lines)
    forget(log.path)  # type: ignore[arg-type]
    assert [entry["number"] for entry in contents(log)] == [0, 2]


def test_a_damaged_line_is_taken_out_of_its_object_alone(memory: ObjectPath) -> None:
    """Rewriting leaves every other object as it is, and adds what is new at the end."""
    log = AppendLog(memory / "commits.jsonl")
    for number in range(3):
        log.append(seal_line({"number": number}))
    place = memory / "commits.jsonl" / f"{2:012d}"
    open_bucket(place).overwrite(place.key, b'{"number":1,"sum":"0000000000000000"}\n')
    forget(log.path)  # type: ignore[arg-type]
    content = log.read(lambda _: "")
    assert [number for number, _ in content.damaged] == [2]

    log.rewrite([*content.lines, seal_line({"number": 9}).removesuffix(b"\n")])
    forget(log.path)  # type: ignore[arg-type]
    assert [entry["number"] for entry in contents(log)] == [0, 2, 9]


def test_there_is_no_log_before_its_first_line(memory: ObjectPath) -> None:
    """Reading it is a FileNotFoundError, as of a file."""
    with pytest.raises(FileNotFoundError):
        NumberedLog(memory / "commits.jsonl").read()
