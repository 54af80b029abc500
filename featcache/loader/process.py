"""Processes of our own: how one is started, sent a request and seen off, and the memory that it shares."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, Any

import featcache
from featcache.errors import MachineError

# The worker runs the package that its parent runs, whichever other is installed; but a folder that holds other
# packages too must not stay before the standard library.
_MAIN = """
import importlib, sys, typing
sys.path.insert(0, sys.argv[1])
import featcache
sys.path.append(sys.path.pop(0))
from featcache.{} import main
main(sys.argv[2], {})
"""


def start_process(module: str, settings: str, file: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start a process that runs `main(settings, descriptor of the file)` of a module of featcache.

    Args:
        module: The module's name, without "featcache.".
        settings: What its `main` needs to know, as JSON.
        file: Memory to share, as `create_shared_file` makes it.

    Returns:
        The process, with pipes to its standard input and from its standard output; Ctrl-C does not reach it.

    Raises:
        MachineError: it cannot be started.
    """
    handle = file.fileno()
    package = str(Path(featcache.__file__).parent.parent)
    command = [sys.executable, "-c", _MAIN.format(module, handle), package, settings]
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=(handle,),
            cwd="/",
            process_group=0,  # Ctrl-C goes to the parent alone, which then decides
        )
    except OSError as error:
        raise MachineError(f"another process cannot be started: {error.strerror}; try --workers 1") from None


def request(process: subprocess.Popen[bytes], message: object) -> Any:
    """Send a message to a process, wait for its reply, and return that.

    Raises:
        EOFError, BrokenPipeError: it has ended.
    """
    send(process, message)
    return recv(process)


def send(process: subprocess.Popen[bytes], message: object) -> None:
    """Send a message, one line of JSON, to a process, without waiting for a reply.

    Args:
        process: As `start_process` returned it.
        message: What JSON can carry.

    Raises:
        BrokenPipeError: it has ended.
    """
    assert process.stdin is not None  # noqa: S101 (it is a pipe)
    process.stdin.write(json.dumps(message).encode() + b"\n")
    process.stdin.flush()


def recv(process: subprocess.Popen[bytes]) -> Any:
    """Wait for the next message of a process.

    Args:
        process: As `start_process` returned it.

    Returns:
        What the message says, as JSON has it.

    Raises:
        EOFError: it has ended.
    """
    assert process.stdout is not None  # noqa: S101 (it is a pipe)
    line = process.stdout.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    return json.loads(line)


def reap(process: subprocess.Popen[bytes]) -> str:
    """Close the pipes of a process that is ending, and wait for its end.

    Args:
        process: One that has been killed, or that ends when its standard input does.

    Returns:
        How it ended, as `wait_for_end` says it.
    """
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):
            if pipe is not None:
                pipe.close()
    return wait_for_end(process)


def wait_for_end(process: subprocess.Popen[bytes]) -> str:
    """Wait for a process that is ending; its pipes stay open.

    Args:
        process: One that has been killed, or that ends by itself.

    Returns:
        How it ended: "signal 9" where a signal ended it, else "exit 1", by its exit code.
    """
    code = process.wait()
    return f"signal {-code}" if code < 0 else f"exit {code}"


def create_shared_file(size: int) -> IO[bytes]:
    """Return memory that processes can share and that leaves nothing behind, however they die: a file without a name.

    Args:
        size: Bytes.

    Raises:
        MachineError: there is no room for it.
    """
    for folder in ("/dev/shm", None):  # noqa: S108 (memory where it exists, the usual place where not)
        if folder is None or os.path.isdir(folder):
            try:
                file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (it lives as long as the pool)
                os.posix_fallocate(file.fileno(), 0, size) if hasattr(os, "posix_fallocate") else file.truncate(size)
                return file
            except OSError as error:
                refusal = error
    raise MachineError(
        f"no room for {size / 1e6:.0f} MB of shared memory: {refusal.strerror}; try a smaller --batch-size"
    )
