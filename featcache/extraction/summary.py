"""The settings of an extract, its progress, and the summary of what it has done."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from featcache.arguments import checked_class, nearest_name
from featcache.cluster import ClusterOptions, chosen_cluster
from featcache.errors import UsageError
from featcache.extraction.drift_bounds import DriftComparison
from featcache.extraction.placement import EXPECTED
from featcache.extraction.timing import MAX_WORKERS
from featcache.listing import readable
from featcache.media import View
from featcache.store import MAX_ROWS, SHARD_ROWS, SHARD_SECONDS
from featcache.trunks import ENGINES

MAX_BAD = 0.01  # the share of a listing's images that may be unreadable


@dataclass(frozen=True, slots=True)
class Progress:
    """Where an extract stands."""

    split: str
    stage: str  # "reading", "loading the trunk", "embedding"
    done: int  # files of this split that are finished, each counted once for every view of it
    total: int  # files of this split that had to be looked at, counted likewise
    embedded: int
    seconds: float  # since the first file was asked for
    bound: str = ""  # what holds it back so far: "decode-bound", …; "" while nothing is embedded


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What one extract of one split did. rows = embedded + reused + failed."""

    data_set: str
    split: str
    rows: int
    embedded: int  # rows whose image was embedded now
    reused: int  # rows whose embedding was there, or whose image stands in an earlier row
    failed: int
    seconds: float
    images_per_second: float  # embedded in this run, from the first file to the last commit; 0.0 without any
    cache: str
    store: str
    layer: str
    failures: tuple[tuple[str, str], ...]  # (path, reason) of the rows without an embedding
    ignored: tuple[str, ...]  # files that are no images by their name
    empty_classes: tuple[str, ...]  # classes of the data set that this split lacks
    part: str  # how a subset was asked for; "" is the whole split
    moved_from: str  # where the data set's folder stood before; "" where it stands as it did
    cuts: tuple[str, ...]  # a sentence for each other split that shares a subject, a clip or an image with this one
    trunk: str  # weights and precision, in words
    transform: str = ""  # which transform images got, and why; "" where the weights' name says it
    engine: str = ""  # how the forward ran and why, in words; "" where nothing was embedded
    held_back: str = ""  # the sentence that says what held it back; "" where nothing was embedded
    shares: Mapping[str, float] = field(default_factory=dict)  # of the time; see extraction.timing
    notes: tuple[str, ...] = ()  # what was left out of the folder, and names that look alike, a sentence each
    view: View | None = None  # whose embeddings these are; None: those of the plain images
    drift: DriftComparison | None = None  # what holding a new environment against the store gave; None: none was new

    def to_json(self) -> dict[str, Any]:
        """Return the keys of the command line's contract, and what else is known."""
        return {
            "split": self.split,
            "rows": self.rows,
            "embedded": self.embedded,
            "reused": self.reused,
            "failed": self.failed,
            "seconds": round(self.seconds, 3),
            "images_per_second": round(self.images_per_second, 2),
            "cache": self.cache,
            "store": self.store,
            "layer": self.layer,
            "view": None if self.view is None else str(self.view),
            "data_set": self.data_set,
            "failures": [{"path": readable(path), "reason": reason} for path, reason in self.failures],
            "ignored": [readable(path) for path in self.ignored],
            "notes": list(self.notes),
            "part": self.part or None,
            "cuts": list(self.cuts),
            "engine": self.engine or None,
            "transform": self.transform or None,
            "held_back": self.held_back or None,
            "shares": {activity: round(share, 4) for activity, share in self.shares.items()},
            "drift": None if self.drift is None else self.drift.to_json(),
        }


@checked_class
@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How an extract runs; nothing here changes an embedding."""

    device: str = "auto"
    engine: str = "auto"
    workers: int | None = None  # None: one a core
    batch_size: int | None = None  # None: the device's own
    max_bad: float = MAX_BAD
    retry_failed: bool = False
    shard_rows: int = SHARD_ROWS
    shard_seconds: float = SHARD_SECONDS
    wait: float = 0.0  # seconds, for a store that another process is writing to
    ray: str | None = None  # "auto", "local" or HOST:PORT: embed on the nodes of a cluster of Ray
    ray_gpus: float | None = None  # of each worker there; None: one, where the cluster has any
    ray_cpus: float | None = None  # cores of each worker; None: an equal share of its node's
    ray_workers: int | None = None  # None: as many as there is room for

    def __post_init__(self) -> None:
        if not re.fullmatch(r"auto|all|cpu|mps|cuda|cuda:\d{1,3}(,cuda:\d{1,3})*", self.device):
            raise UsageError(f"--device {self.device}: expected {EXPECTED}").correct("--device", "auto")
        if self.engine not in ENGINES:
            error = UsageError(f"--engine {self.engine}: expected one of {', '.join(ENGINES)}")
            raise error.correct("--engine", nearest_name(self.engine, ENGINES) or "auto")
        for name, most in (("workers", MAX_WORKERS), ("batch_size", 65_536), ("shard_rows", MAX_ROWS)):
            value = getattr(self, name)
            if value is not None and value > most:
                raise UsageError(f"--{name.replace('_', '-')}: found {value}, expected at most {most:,}")
        for name, least in (
            ("workers", 1),
            ("batch_size", 1),
            ("shard_rows", 1),
            ("shard_seconds", 0.0),
            ("wait", 0.0),
        ):
            value = getattr(self, name)
            if value is not None and not value >= least:
                raise UsageError(f"--{name.replace('_', '-')}: found {value}, expected at least {least}")
        if not 0 <= self.max_bad <= 1:
            raise UsageError(f"--max-bad: found {self.max_bad}, expected a share from 0 to 1")
        _ = self.cluster

    @property
    def cluster(self) -> ClusterOptions | None:
        """The cluster that embeds; None: this machine does.

        Raises:
            UsageError: no such address or share, or one without a cluster.
        """
        if self.ray is not None and self.device != "auto":
            error = UsageError("--device has no effect with --ray: --ray-gpus says whether workers have a GPU")
            raise error.correct("--device", None)
        return chosen_cluster(self.ray, gpus=self.ray_gpus, cpus=self.ray_cpus, workers=self.ray_workers)
