"""ObjectPath: a place in an object store, where code expects the path of a file or folder of a cache.

Only what a cache needs of `pathlib.Path` works, and asks the object store: `/`, `name`, `parent`, `exists`, `is_dir`,
`iterdir`, `glob`, `stat`. Whatever would hand the place to the operating system raises a TypeError instead of looking
for a local file of that name.
"""

import fnmatch
import os
import re
import shlex
import stat
from collections.abc import Generator
from pathlib import Path, PosixPath
from typing import Any, NoReturn, Self

from featcache.arguments import path_text
from featcache.errors import CacheError, UsageError

SCHEMES = ("s3", "gs", "az", "memory")  # the last one lives as long as the process, for tests
LOGS = ("commits.jsonl", "runs.jsonl", "stat.log")  # which are files in a folder, and numbered objects here
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_FEW_SLASHES = re.compile(rf"({'|'.join(SCHEMES)}):/?([^/].*)", re.DOTALL | re.IGNORECASE)
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
_UNUSABLE = re.compile(r"[\x00-\x1f\x7f\\]")  # in a key


class ObjectPath(PosixPath):
    """A place in an object store: `s3://bucket/prefix/stores`. `parse_object_url` makes the first one of a cache."""

    __slots__ = ()

    def __str__(self) -> str:
        scheme, *names = self.parts or ("",)
        return f"{scheme}//{'/'.join(names)}" if scheme.endswith(":") else "/".join(self.parts)

    def __repr__(self) -> str:
        return f"ObjectPath({str(self)!r})"

    def __fspath__(self) -> NoReturn:
        raise TypeError(f"{self} is in an object store, not on this machine's disk")

    @property
    def bucket(self) -> str:
        """The bucket with its scheme: `s3://bucket`.

        Raises:
            CacheError: as `key`.
        """
        self._check()
        return f"{self.parts[0]}//{self.parts[1]}"

    @property
    def key(self) -> str:
        """The name of the object within its bucket, without a slash at its start: `prefix/stores`.

        Raises:
            CacheError: a part of it would lead out of the cache, or is none that a key may have.
        """
        self._check()
        return "/".join(self.parts[2:])

    def _check(self) -> None:
        scheme, *names = self.parts or ("",)
        if scheme.removesuffix(":") not in SCHEMES or not names or not scheme.endswith(":"):
            raise CacheError(f"{'/'.join(self.parts)!r} is no place in an object store: it leads out of the cache")
        if ".." in names or any(_UNUSABLE.search(name) for name in names):
            raise CacheError(f"{str(self)!r} leads out of the cache, or has characters that no key of a cache has")

    def absolute(self) -> Self:
        """Return the place itself."""
        return self

    def resolve(self, strict: bool = False) -> Self:  # noqa: ARG002 (the signature of pathlib)
        """Return the place itself: an object store has no links.

        Args:
            strict: As for pathlib; without effect.
        """
        return self

    def expanduser(self) -> Self:
        """Return the place itself."""
        return self

    def is_absolute(self) -> bool:
        """Return True."""
        return True

    def exists(self, *, follow_symlinks: bool = True) -> bool:  # noqa: ARG002 (there are none)
        """Return whether an object has this name, or begins with it as with that of a folder.

        Args:
            follow_symlinks: As for pathlib; without effect.
        """
        return self.is_file() or self.is_dir()

    def is_file(self, *, follow_symlinks: bool = True) -> bool:  # noqa: ARG002 (there are none)
        """Return whether an object has this name.

        Args:
            follow_symlinks: As for pathlib; without effect.
        """
        from featcache.files.objects.bucket import open_bucket

        try:
            open_bucket(self).head(self.key)
        except FileNotFoundError:
            return False
        return True

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:  # noqa: ARG002 (there are none)
        """Return whether objects stand below this name: an object store has no other folders.

        Args:
            follow_symlinks: As for pathlib; without effect.
        """
        from featcache.files.objects.bucket import open_bucket

        return open_bucket(self).has_keys(self.key)

    def is_symlink(self) -> bool:
        """Return False: an object store has no links."""
        return False

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:  # noqa: ARG002 (there are none)
        """Return size and time of an object, as of a regular file that nobody may write to.

        Args:
            follow_symlinks: As for pathlib; without effect.

        Raises:
            FileNotFoundError: there is none.
            MachineError: the object store does not answer.
        """
        from featcache.files.objects.bucket import open_bucket

        version = open_bucket(self).head(self.key)
        seconds = version.modified_ns // 10**9
        return os.stat_result((stat.S_IFREG | 0o444, 0, 0, 1, 0, 0, version.size, seconds, seconds, seconds))

    def lstat(self) -> os.stat_result:
        """Return what `stat` does."""
        return self.stat()

    def publish(self, data: bytes | memoryview, *, replace: bool) -> None:
        """Publish an object here.

        Args:
            data: Its bytes.
            replace: Whether its content may change later.
        """
        from featcache.files.objects.publishing_objects import publish_object

        publish_object(self, data, replace=replace)

    def copy_to(self, place: "ObjectPath") -> None:
        """Publish the object under another name too.

        Args:
            place: Where the copy is to stand.
        """
        from featcache.files.objects.publishing_objects import copy_object

        copy_object(self, place)

    def move_to(self, place: "ObjectPath") -> None:
        """Give the object, or all objects below this name, another name.

        Args:
            place: Where it is to stand.
        """
        from featcache.files.objects.publishing_objects import move_object

        move_object(self, place)

    def unlink(self, missing_ok: bool = False) -> None:  # noqa: ARG002 (one that is gone already is no error)
        """Remove the object of this name.

        Args:
            missing_ok: As for pathlib; without effect.
        """
        from featcache.files.objects.bucket import open_bucket

        open_bucket(self).remove(self.key)

    def iterdir(self) -> Generator[Self, None, None]:
        """Yield what stands directly below this name, objects and folders, by name."""
        from featcache.files.objects.bucket import open_bucket

        folders, objects = open_bucket(self).list_folder(self.key)
        yield from (self / name for name in sorted({*folders, *objects}))

    def glob(self, pattern: str, **_: Any) -> Generator[Self, None, None]:
        """Yield what stands below this name and fits a pattern such as `*/*/head.json`, sorted.

        Args:
            pattern: One shell pattern for each level, with slashes between.
            _: As for pathlib; without effect.
        """
        from featcache.files.objects.bucket import open_bucket

        levels = pattern.split("/")
        if len(levels) == 1:
            names: set[tuple[str, ...]] = {(path.name,) for path in self.iterdir()}
        else:
            start = len(self.key) + 1 if self.key else 0
            keys = (key[start:].split("/") for key, _ in open_bucket(self).walk(self.key))
            names = {tuple(parts[: len(levels)]) for parts in keys if len(parts) >= len(levels)}
        for parts in sorted(names):
            if all(fnmatch.fnmatchcase(name, level) for name, level in zip(parts, levels, strict=True)):
                yield self.joinpath(*parts)


def parse_path(text: str | Path, flag: str = "--cache") -> Path:
    """Return the place that a text names: of a URL an `ObjectPath`, else the path of a file or folder, as it stands.

    Args:
        text: As it was typed, or as `str` gives a path.
        flag: What it was typed for, for messages.

    Raises:
        UsageError: as `parse_object_url`, and as `refuse_few_slashes`.
    """
    if isinstance(text, ObjectPath):
        return text
    typed = path_text(text) if isinstance(text, Path) else text
    refuse_few_slashes(typed, flag)
    return parse_object_url(typed, flag) or Path(text)


def refuse_few_slashes(text: str, flag: str) -> None:
    """Refuse a URL that was typed with a slash too few, which would be the path of a folder on this machine.

    Args:
        text: As it was typed.
        flag: What it was typed for, for messages.

    Raises:
        UsageError: it is one, such as `s3:/bucket/prefix` or `s3:bucket`.
    """
    match = _FEW_SLASHES.fullmatch(text)
    if match is None:
        return
    scheme, rest = match[1].lower(), match[2]
    if any(mark in rest for mark in "@?#"):  # not repeated: it may be a secret
        raise UsageError(f"{flag}: found a {scheme}: URL with a slash too few, expected {scheme}://BUCKET/PREFIX")
    right = f"{scheme}://{rest}"
    error = UsageError(f"{flag}: found {text!r}, did you mean {right}? (a folder of that name is {'./' + text!r})")
    raise error.correct("--cache" if flag == "--cache" else text, shlex.quote(right))


def parse_object_url(text: str, flag: str = "--cache") -> ObjectPath | None:
    """Return the place that a URL names; None where the text is no URL, and so the path of a folder.

    Args:
        text: As it was typed.
        flag: What it was typed for, for messages.

    Raises:
        UsageError: another scheme, no bucket, or more than a bucket and a prefix: credentials are never in a URL.
    """
    match = _URL.fullmatch(text)
    if match is None:
        return None
    scheme, rest = match[1].lower(), match[2]
    if scheme not in SCHEMES:
        raise UsageError(f"{flag}: found {scheme}://…, expected a folder, s3://…, gs://… or az://…")
    if any(mark in rest for mark in "@?#"):  # not repeated in the message: it may be a secret
        raise UsageError(
            f"{flag}: found a {scheme}:// URL with credentials or a query, expected {scheme}://BUCKET/PREFIX; "
            f"credentials come from the environment (docs/guides/object-storage.md)"
        )
    bucket, *names = [name for name in rest.split("/") if name not in ("", ".")] or [""]
    if not _BUCKET.fullmatch(bucket) or rest.startswith("/") or ".." in names or _UNUSABLE.search(rest):
        raise UsageError(f"{flag}: found {text!r}, expected {scheme}://BUCKET/PREFIX")
    return ObjectPath(f"{scheme}://{'/'.join([bucket, *names])}")
