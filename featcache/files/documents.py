"""One function that opens any document of a cache, by its schema.

A document is opened here and nowhere else: no link, no pipe, no device, at most 64 MiB; its checksum; its format; then
every key that featcache uses, by its type and its bounds. Keys that a schema does not name are a newer writer's, and
are left out. What comes back can be used without another look at its types.

The schemas stand in `store.documents`, `trunks.documents` and `heads.saved.documents`.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)  # fmt: skip

from featcache.errors import CacheError
from featcache.files.cache_files import read_cache_file
from featcache.files.sealed import parse_json, unseal_document

MAX_TEXT_LENGTH = 1 << 16  # characters
FORMAT = 1
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"  # names become folder names: no separator, no leading dot


class Document(BaseModel):
    """What every schema has: exact types, and keys that it does not name are left out."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, allow_inf_nan=True)


def check_length(value: str) -> str:
    """Return a text that is no longer than any that featcache writes.

    Args:
        value: What stands in a document.

    Raises:
        ValueError: it has more than `MAX_TEXT_LENGTH` characters.
    """
    if len(value) > MAX_TEXT_LENGTH:
        raise ValueError(f"expected at most {MAX_TEXT_LENGTH:,} characters")
    return value


def _text(value: str) -> str:
    check_length(value)
    if "\0" in value:
        raise ValueError("expected no NUL in a text")
    return value


def _line(value: str) -> str:
    if len(value) > 1000:
        raise ValueError("expected at most 1,000 characters")
    if any(character < " " or "\x7f" <= character <= "\x9f" for character in value):
        raise ValueError("expected no control characters")
    return value


def _file_name(value: str) -> str:
    if not value or value in (".", "..") or "/" in value or "\\" in value or len(value) > 255:
        raise ValueError("this is not the name of a head")
    return value


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("expected a finite number")
    return value


def _no_boolean(value: Any) -> Any:
    if isinstance(value, bool):  # which is a number to Python
        raise ValueError("expected a number")  # noqa: TRY004 (pydantic reports a ValueError)
    return value


# As os.fsdecode gives it: names of files, classes, people need not be UTF-8, and may hold a newline.
Text = Annotated[str, AfterValidator(_text)]
SingleLine = Annotated[Text, AfterValidator(_line)]  # what featcache itself has named
FolderName = Annotated[SingleLine, AfterValidator(_file_name)]  # of a head: it becomes a path
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN.replace("$", r"\z"))]  # of a data set, a variant, a split
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}\z")]
Integer = Annotated[int, BeforeValidator(_no_boolean), Field(ge=-(2**63), lt=2**63)]
Count = Annotated[int, BeforeValidator(_no_boolean), Field(ge=0, lt=2**63)]
Number = Annotated[float, BeforeValidator(_no_boolean)]  # not always finite: what a training that diverged gave
Finite = Annotated[Number, AfterValidator(_finite)]
Seconds = Annotated[Finite, Field(ge=0)]
StatNumbers = tuple[Count, Integer, Integer, Count]  # size, mtime_ns, ctime_ns, inode; JSON has them as a list

D = TypeVar("D", bound=Document)


class DocumentError(CacheError):
    """A document of a cache that cannot be used."""


class MissingError(DocumentError):
    """There is none."""


class DamagedError(DocumentError):
    """It cannot be read, or does not match its checksum."""


class NewerError(DocumentError):
    """It is whole, and of a format that this version does not know."""


@dataclass(frozen=True, slots=True)
class DocumentKind(Generic[D]):
    """A kind of sealed document: its schema, and how a person is told what is wrong with one."""

    schema: type[D]
    noun: str  # "head": what the document is about
    way_out: str  # "train the head again"
    newer: str = "use the featcache that made it"

    def read(self, path: Path) -> D:
        """Return what the document at `path` says.

        Args:
            path: Where the document stands, below the cache folder.

        Raises:
            MissingError: there is none.
            DamagedError: it cannot be read, or does not match its checksum.
            NewerError: it is of another format.
            DocumentError: it says something that no such document says.
        """
        return self.parse(self._bytes(path), path)

    def _bytes(self, path: Path) -> bytes:
        """Return the bytes of the document at `path`."""
        try:
            return read_cache_file(path)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise MissingError(f"{path}: no {self.noun} here: {error.strerror}") from None
        except OSError as error:
            raise DamagedError(f"{path}: cannot be read: {error.strerror}; {self.way_out}") from None

    def parse(self, data: bytes, path: Path) -> D:
        """Return what the bytes of a document say.

        Args:
            data: All bytes of the document.
            path: Where they were read, for the message.

        Raises:
            DamagedError: they do not match their checksum.
            NewerError: they are of another format.
            DocumentError: they say something that no such document says.
        """
        value = unseal_document(data)
        if value is None:
            raise DamagedError(f"{path}: damaged: it does not match its checksum; {self.way_out}")
        number = value.get("format")
        if type(number) is not int or number != FORMAT:
            shown = str(number)[:40]
            raise NewerError(f"{path}: a {self.noun} of format {shown}, this featcache reads {FORMAT}; {self.newer}")
        try:
            return validate(self.schema, value)
        except ValueError as error:
            raise DocumentError(f"{path}: this {self.noun} cannot be read by this version: {error}") from None


def salvage_document(path: Path) -> Any:
    """Return the JSON of a document whose checksum need not hold: what repair may still learn from a damaged one.

    Args:
        path: The document, below the cache folder.

    Raises:
        OSError: it is missing, no regular file, a link, or larger than any document.
        ValueError: it is no JSON.
    """
    return parse_json(read_cache_file(path))


def validate(schema: type[D], value: Any) -> D:
    """Return a JSON value as its schema has it.

    Args:
        schema: What it must be.
        value: As `parse_json` gives it.

    Raises:
        ValueError: it does not fit; the message names the first place where it does not.
    """
    try:
        return schema.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        key = (".".join(map(str, first["loc"])) or "the document")[:200]
        if first["type"] == "missing":
            raise ValueError(f"{key} is missing") from None
        message = first["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
        raise ValueError(f"{key}: found {_shown(first['input'])}; {message[0].lower()}{message[1:]}") from None


def _shown(value: object) -> str:
    """Return a value for a message, short whatever it is."""
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'an array'} of {len(value):,}"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 2**64:
        return "a number of more than 64 bits"
    shown = repr(value) if not isinstance(value, str) else repr(value[:80])
    return shown if len(shown) < 80 else shown[:77] + "..."


def as_tuple(value: Any) -> Any:
    """Return a JSON array as a tuple, anything else as it is.

    Args:
        value: As `parse_json` gives it.
    """
    return tuple(value) if isinstance(value, list) else value


class RememberedFile(Document):
    """A line of stat.log."""

    stat: Annotated[StatNumbers, BeforeValidator(as_tuple)]
    digest: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64})?\z")]
    reason: Text
    transform: Text = ""


class LockHolder(Document):
    """writer.json: who writes to a store."""

    pid: Count
    host: SingleLine
    since: SingleLine


def read_lock_holder(path: Path) -> LockHolder:
    """Return what writer.json says, which is not sealed.

    Raises:
        OSError: it cannot be read.
        ValueError: it says something else.
    """
    return validate(LockHolder, parse_json(read_cache_file(path)))
