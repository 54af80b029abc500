"""What the documents of a store and of its listings may say: one schema each."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidatorFunctionWrapHandler, WrapValidator

from featcache.files import (
    Count,
    Document,
    DocumentKind,
    FolderName,
    Integer,
    Name,
    Number,
    Sha256,
    SingleLine,
    Text,
    check_length,
)  # fmt: skip


class SplitsDocument(Document):
    """splits.json: who is in which split."""

    splits: dict[Name, list[Annotated[str, AfterValidator(check_length)]]]

    @property
    def groups(self) -> dict[str, str]:
        """The split of each group, group -> split."""
        return {group: split for split, groups in self.splits.items() for group in groups}


class RecordedDrift(Document):
    """How far a store's old rows came out otherwise where new ones were added."""

    compared: Count
    cosine_distance: Number
    mean_cosine_distance: Number | None = None  # None: by a version that did not have it
    norm_change: Number


class ProvenanceEntry(Document):
    """An entry of trunk.json's `made`."""

    device: Text = "?"
    engine: Text = "?"
    batch_size: Count = 0
    versions: dict[Text, Text] = Field(default_factory=dict)
    drift: RecordedDrift | None = None


def _as_written(entry: dict[str, Any], check: ValidatorFunctionWrapHandler) -> dict[str, Any]:
    """Return an entry that fits the schema, with the keys of a newer writer, which are written back."""
    check(entry)
    return entry


if TYPE_CHECKING:
    WrittenProvenance = dict[str, Any]
else:
    WrittenProvenance = Annotated[ProvenanceEntry, WrapValidator(_as_written)]


class TrunkDocument(Document):
    """trunk.json, but for its spec, which `trunks.spec` checks."""

    asked: Text
    weights: Text = ""  # as they were given, a file by its whole path; earlier versions wrote none
    spec: dict[str, Any]
    made: list[WrittenProvenance]


class PartDocument(Document):
    """One store of a concatenation."""

    store: FolderName
    trunk: Sha256  # its fingerprint
    layer: SingleLine
    width: Count


class FeaturesDocument(Document):
    """features.json: the stores whose embeddings stand side by side, in the order of their columns."""

    parts: Annotated[list[PartDocument], Field(min_length=2)]


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
    members: bool = False
    data: dict[Text, Text] = Field(default_factory=dict)  # the settings of the data set; earlier versions wrote none
    targets: Literal["labels", "value"] | None = None  # what the dataset `targets` has; None: each row has one class


SPLITS = DocumentKind(
    SplitsDocument, "record of splits",
    "restore it from a copy; or remove it, and `featcache extract` assigns the splits anew",
)  # fmt: skip
TRUNK = DocumentKind(
    TrunkDocument, "store", "run `featcache repair`", "use the featcache that made it, or another --cache"
)
FEATURES = DocumentKind(
    FeaturesDocument, "record of concatenated features", "remove its folder, and train the heads again"
)
