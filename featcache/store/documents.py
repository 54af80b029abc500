"""What the documents of a store and of its listings may say: one schema each."""

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field, ValidatorFunctionWrapHandler, WrapValidator

from featcache.files import Count, Document, Integer, Kind, Name, Number, Text, bounded


class SplitsDocument(Document):
    """splits.json: who is in which split."""

    splits: dict[Name, list[Annotated[str, AfterValidator(bounded)]]]

    @property
    def groups(self) -> dict[str, str]:
        """Group -> split."""
        return {group: split for split, groups in self.splits.items() for group in groups}


class Drift(Document):
    """How far a store's old rows came out otherwise where new ones were added."""

    compared: Count
    cosine_distance: Number
    norm_change: Number


class Making(Document):
    """An entry of trunk.json's `made`."""

    device: Text = "?"
    engine: Text = "?"
    batch_size: Count = 0
    versions: dict[Text, Text] = Field(default_factory=dict)
    drift: Drift | None = None


def _as_written(entry: dict[str, Any], check: ValidatorFunctionWrapHandler) -> dict[str, Any]:
    """An entry that fits, with the keys of a newer writer, which are written back."""
    check(entry)
    return entry


if TYPE_CHECKING:
    WrittenMaking = dict[str, Any]
else:
    WrittenMaking = Annotated[Making, WrapValidator(_as_written)]


class TrunkDocument(Document):
    """trunk.json, but for its spec, which `trunks.spec` checks."""

    asked: Text
    weights: Text = ""  # as they were given, a file by its whole path; earlier versions wrote none
    spec: dict[str, Any]
    made: list[WrittenMaking]


class ListingMeta(Document):
    """`meta` of a listing."""

    version: Integer
    data_set: Name
    variant: Name
    split: Name
    root: Text
    classes: list[Text]
    ignored: list[Text]
    part: Text
    videos: bool = False
    data: dict[Text, Text] = Field(default_factory=dict)  # the settings of the data set; earlier versions wrote none


SPLITS = Kind(
    SplitsDocument, "record of splits",
    "bring it back from a copy; or remove it, and `featcache extract` deals the data set anew",
)  # fmt: skip
TRUNK = Kind(
    TrunkDocument, "store", "`featcache repair` mends it", "use the featcache that made it, or another --cache"
)
