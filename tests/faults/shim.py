"""The shim: it stands where publish.py has `os`, counts the calls that change the disk, and fails those that it shall.

Everything that featcache writes to a cache goes through publish.py (test_one_writer.py holds it so), so these are all.
"""

import contextlib
import errno
import os
from collections.abc import Callable
from typing import Any

COUNTED = ("open", "write", "fchmod", "fsync", "close", "rename", "unlink", "mkdir", "ftruncate")
NEEDS_ROOM = ("open", "write", "fsync", "rename", "mkdir")
Real = Callable[[], Any]
Fault = Callable[[int, str, Real, tuple[Any, ...]], Any]  # number of the call, its name, how to make it, its arguments


class Shim:
    """Like `os`, with `fault` in front of every call that changes the disk."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.calls: list[tuple[str, str]] = []  # name, and the path that it is about
        self.paths: dict[int, str] = {}  # of open descriptors

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in COUNTED:
            return real

        def call(*args: Any, **kwargs: Any) -> Any:
            about = self.paths.get(args[0], "?") if isinstance(args[0], int) else str(args[0])
            self.calls.append((name, about))
            found = self.fault(len(self.calls), name, lambda: real(*args, **kwargs), args)
            if name == "open":
                self.paths[found] = about
            return found

        return call


def error(code: str) -> OSError:
    number = getattr(errno, code)
    return OSError(number, os.strerror(number))


class Fails:
    """Call `at` fails with this error; where `persistent`, so do those after it that the same cause would hit."""

    def __init__(self, at: int, code: str, *, persistent: bool = False) -> None:
        self.at, self.code, self.persistent = at, code, persistent
        self.struck: list[str] = []

    def __call__(self, number: int, name: str, real: Real, args: tuple[Any, ...]) -> Any:
        later = self.persistent and number > self.at and (self.code == "EIO" or name in NEEDS_ROOM)
        if number != self.at and not later:
            return real()
        self.struck.append(name)
        if name == "close":  # Linux closes the descriptor, whatever close says
            real()
        raise error(self.code)


class FailsFsync:
    """The `at`-th fsync fails."""

    def __init__(self, at: int, code: str = "EIO") -> None:
        self.at, self.code, self.count = at, code, 0

    def __call__(self, number: int, name: str, real: Real, args: tuple[Any, ...]) -> Any:
        if name == "fsync":
            self.count += 1
            if self.count == self.at:
                raise error(self.code)
        return real()


class WritesShort:
    """Every write takes `most` bytes at the most, as a kernel may."""

    def __init__(self, most: int) -> None:
        self.most, self.short = most, 0

    def __call__(self, number: int, name: str, real: Real, args: tuple[Any, ...]) -> Any:
        if name == "write" and len(args[1]) > self.most:
            self.short += 1
            return os.write(args[0], args[1][: self.most])
        return real()


class Kills:
    """SIGKILL to this very process at call `at`: before it, after it, or with half of a write written."""

    def __init__(self, at: int, moment: str) -> None:
        self.at, self.moment = at, moment

    def __call__(self, number: int, name: str, real: Real, args: tuple[Any, ...]) -> Any:
        if number != self.at:
            return real()
        if self.moment == "after":
            with contextlib.suppress(OSError):  # a call that fails (the removal of what is not there) is one, too
                real()
        elif self.moment == "amid" and name == "write":
            os.write(args[0], args[1][: len(args[1]) // 2])
        os.kill(os.getpid(), 9)
        raise AssertionError("unreachable")


def lets_pass(number: int, name: str, real: Real, args: tuple[Any, ...]) -> Any:
    return real()
