"""What the driver and the workers of an extract say to each other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from featcache.extraction.summary import Settings
from featcache.files import KnownFile
from featcache.listing import Listing
from featcache.loader import ImageRead
from featcache.store import Digests, Shard


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """What a worker needs to load its trunk."""

    version: str  # of featcache, here
    section: Mapping[str, Any]  # the recipe's, of the trunk
    cache: str
    roots: Mapping[str, str]  # by name, the folders of the stores
    widths: Mapping[str, int]  # of each layer that is read from a forward
    data: str  # the folder of the images
    folder: str  # where this command runs, and …
    path: Sequence[str]  # … where it finds modules: a trunk of one's own is imported as here
    settings: Settings
    processes: int  # that read and decode, where `settings` has none
    uses_gpu: bool
    images: int  # for each worker, about


@dataclass(frozen=True, slots=True)
class LoadedWorker:
    """A worker that is ready."""

    place: str  # its machine
    provenance: Mapping[str, Any]
    engine: str  # how the forward runs, a sentence
    device: str  # as a person calls it
    has_faster_engine: bool


@dataclass(frozen=True, slots=True, eq=False)
class PartitionTask:
    """What a worker is to embed."""

    listing: Listing  # of these rows alone
    known_files: Sequence[KnownFile | None]  # (rows,)
    todo: Mapping[str, npt.NDArray[np.int64]]  # by store, which of these rows must be read for it
    refused: Mapping[str, Mapping[bytes, str]]  # by store, digests that it cannot hold
    numbers: Mapping[str, int]  # by store, the number of its next shard


@dataclass(frozen=True, slots=True, eq=False)
class PublishedShard:
    """A shard that stands in the folder of its store, and that the driver has yet to commit."""

    store: str
    entry: Shard
    digests: Digests


@dataclass(slots=True, eq=False)
class PartitionReply:
    """What a worker has done since its last reply."""

    rows: list[tuple[int, ImageRead]] = field(default_factory=list)  # of the partition, without their pixels
    shards: list[PublishedShard] = field(default_factory=list)
    refused: dict[str, dict[bytes, str]] = field(default_factory=dict)  # by store; at the end
    embedded: int = 0  # images and views of this partition so far
    timing: Mapping[str, Any] | None = None  # of this partition so far, as `TimeBreakdown.to_message` has it
    is_done: bool = False
