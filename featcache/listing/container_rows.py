"""ContainerRows: the images of one container, before a data set is made of several."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

ROLES = ("label", "split", "clip", "subject")  # what a container may say of each image


@dataclass(frozen=True, slots=True)
class ContainerRows:
    """The images of one container, and what it says of them."""

    keys: Sequence[str]  # (rows,)
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)  # label, split, clip, subject: (rows,) each
    left_out: Sequence[str] = ()  # what systems leave
    notes: Sequence[str] = ()  # what else is no row, as sentences
    problems: Sequence[str] = ()  # each begins with the key that it is about
