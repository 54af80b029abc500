"""Container: an open file of images, whatever its format."""

from typing import Protocol

from featcache.files import FileStat

Place = list[int] | str  # where an image stands in its container: what a worker needs to read it, as JSON has it


class ContainerError(ValueError):
    """A container, or an image in it, that cannot be read; the message is the reason, without the path."""


class Container(Protocol):
    """An open container. What it reads is what stood there when it was opened: `is_unchanged` says whether it does."""

    can_change: bool  # whether a read may be of what stands there by now: `is_unchanged` is asked after it
    is_concurrent: bool  # whether several threads may read at once

    @property
    def status(self) -> FileStat:
        """The container's stat when it was opened."""

    def is_unchanged(self) -> bool:
        """Return whether the open file is still what it was."""

    def index(self) -> None:
        """Find out where its images are, so that `locate` works once it is closed.

        Raises:
            ContainerError: it is damaged.
        """

    def locate(self, key: str) -> Place:
        """Return where an image stands.

        Args:
            key: Its key.

        Raises:
            ContainerError: there is none of this key, or the container is damaged.
        """

    def read(self, place: Place, limit: int) -> bytes:
        """Return the bytes of an image.

        Args:
            place: As `locate` returned it.
            limit: The most bytes that it may have.

        Raises:
            ContainerError: it cannot be read there, or is larger.
            OSError: the disk refuses.
        """

    def close(self) -> None:
        """Close the file."""


def refuse_larger_image(size: int, limit: int) -> None:
    """Refuse an image of more bytes than any supported one has.

    Args:
        size: Its bytes.
        limit: The most.

    Raises:
        ContainerError: it has more.
    """
    if size > limit:
        raise ContainerError(f"{size:,} bytes: larger than any supported image")
