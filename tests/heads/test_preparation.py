"""What a training needs is fetched before it begins: beside the reading of its rows, and behind an extract."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

import featcache
from featcache import MachineError
from featcache.cli.app import app
from featcache.heads import preparation, training
from featcache.heads.preparation import BackgroundCompilation, TrainingPreparation, are_compiled
from tests.builders import cluster_rows, record
from tests.conftest import ARCH, write_images


def test_what_fails_beside_the_reading_is_the_error_of_the_training(tmp_path, monkeypatch):
    """An error of the preparation comes out of fit_head as it is, and once."""

    def refuse(*_):
        raise MachineError("no room")

    monkeypatch.setattr(training, "compile_loops", refuse)
    record(tmp_path / "cache", {"train": cluster_rows(1), "val": cluster_rows(2)})
    with pytest.raises(MachineError, match=r"^no room$"):
        featcache.fit_head(0.1, epochs=1, data="/data/toy", cache=tmp_path / "cache")


def test_where_no_thread_can_be_started_the_caller_prepares(monkeypatch):
    """RuntimeError from Thread.start leaves the preparation to whoever asks for it."""
    calls = []

    def refuse(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(training, "compile_loops", lambda _: calls.append("compiled"))
    monkeypatch.setattr(preparation.threading.Thread, "start", refuse)
    TrainingPreparation().wait()
    assert calls == ["compiled"]


def test_whoever_waits_for_the_compiler_is_told(monkeypatch):
    """`wait` calls on_compile once where the loops are being compiled, and not where they are loaded."""
    told = []

    def slowly(on_compile):
        on_compile()
        time.sleep(0.3)

    monkeypatch.setattr(training, "compile_loops", slowly)
    TrainingPreparation().wait(lambda: told.append(1))
    monkeypatch.setattr(training, "compile_loops", lambda _: None)
    TrainingPreparation().wait(lambda: told.append(2))
    assert told == [1]


def test_loops_are_compiled_until_one_of_their_files_changes(tmp_path):
    """`are_compiled` compares every module of the kernels with what numba kept of the two that are called."""
    (tmp_path / "__pycache__").mkdir()
    source, other = tmp_path / "steps.py", tmp_path / "softmax.py"
    source.touch()
    other.touch()
    assert not are_compiled(tmp_path)
    version = f"py{sys.version_info.major}{sys.version_info.minor}"
    for loop in preparation.LOOPS:
        assert not are_compiled(tmp_path)
        kept = tmp_path / "__pycache__" / f"{loop}-12.{version}.nbi"
        kept.touch()
        os.utime(kept, (time.time() + 10,) * 2)
    assert are_compiled(tmp_path)
    os.utime(other, (time.time() + 20,) * 2)
    assert not are_compiled(tmp_path)


@pytest.mark.slow
def test_another_process_compiles_what_trains(tmp_path, monkeypatch):
    """What `BackgroundCompilation` starts leaves compiled loops where numba keeps them."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(preparation, "are_compiled", lambda: False)
    monkeypatch.setattr(preparation, "KERNELS", tmp_path)  # whose module is locked: an extract may be compiling now
    (tmp_path / "steps.py").touch()
    BackgroundCompilation().start()
    deadline = time.monotonic() + 300  # some ten seconds on an idle machine
    while not all(list(tmp_path.rglob(f"{loop}-*.nbi")) for loop in preparation.LOOPS):
        assert time.monotonic() < deadline, "nothing was compiled"
        time.sleep(0.2)


def test_two_processes_do_not_compile_at_once(tmp_path, monkeypatch):
    """While a process compiles no other is started; another may be when it has ended."""
    started = []

    def spawn(*words, **options):
        started.append(subprocess_that_sleeps(options["file_actions"]))
        return started[-1].pid

    def subprocess_that_sleeps(actions):
        (_, lock, _), *_ = [action for action in actions if action[0] == os.POSIX_SPAWN_DUP2]
        return subprocess.Popen(["sleep", "60"], pass_fds=[lock])

    monkeypatch.setattr(preparation, "are_compiled", lambda: False)
    monkeypatch.setattr(preparation.os, "posix_spawn", spawn)
    monkeypatch.setattr(preparation, "KERNELS", tmp_path)
    (tmp_path / "steps.py").touch()
    BackgroundCompilation().start()
    BackgroundCompilation().start()
    assert len(started) == 1
    started[0].kill()
    started[0].wait()
    BackgroundCompilation().start()
    assert len(started) == 2
    started[1].kill()
    started[1].wait()


def test_an_interrupted_command_leaves_no_compiler_behind(tmp_path, monkeypatch):
    """The process outlives what is done beside it, but is ended where that was interrupted."""
    monkeypatch.setattr(preparation, "are_compiled", lambda: False)
    monkeypatch.setattr(preparation, "KERNELS", tmp_path)
    monkeypatch.setattr(preparation, "COMPILE", "import time; time.sleep(60)")
    (tmp_path / "steps.py").touch()
    for is_interrupted in (False, True):
        processes = []
        monkeypatch.setattr(preparation.os, "posix_spawn", spawn_into(processes))
        expected = pytest.raises(KeyboardInterrupt) if is_interrupted else contextlib.nullcontext()
        with expected, BackgroundCompilation() as compilation:
            compilation.start()
            if is_interrupted:
                raise KeyboardInterrupt
        if not is_interrupted:
            assert os.waitpid(processes[0], os.WNOHANG) == (0, 0)
            os.kill(processes[0], signal.SIGKILL)
            os.waitpid(processes[0], 0)
        with pytest.raises(ChildProcessError):
            os.waitpid(processes[0], 0)


def spawn_into(processes, spawn=os.posix_spawn):
    """Return posix_spawn, which keeps the numbers of the processes too."""

    def spawn_and_keep(*args, **options):
        processes.append(spawn(*args, **options))
        return processes[-1]

    return spawn_and_keep


def test_an_extract_that_embeds_has_the_loops_compiled_beside_it(nano, tmp_path, monkeypatch):
    """Once, however many images and splits; an extract that embeds nothing starts no other process."""
    started = []
    monkeypatch.setattr(preparation, "are_compiled", lambda: started.append(1) or True)
    folder = write_images(tmp_path / "digits", {"train": {"0": 6, "1": 5}, "val": {"0": 2, "1": 2}})
    words = ["extract", str(folder), "--cache", str(tmp_path / "cache"), "--arch", ARCH, "--weights", str(nano.weights)]
    for _ in range(2):
        CliRunner().invoke(app, [*words, "--device", "cpu", "--workers", "1"], catch_exceptions=False)
    assert started == [1]
