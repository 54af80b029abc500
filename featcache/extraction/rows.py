"""What is known of each row of a listing while it is extracted. Resume is subtraction."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from featcache.errors import CacheError
from featcache.listing import Listing
from featcache.loader import ImageRead
from featcache.store import Extracted, FeatureStore, StatLog
from featcache.store.stat_log import Known
from featcache.store.store import digests_of


@dataclass(slots=True, eq=False)
class Rows:
    """What is known of each row while an extract runs."""

    listing: Listing
    known: list[Known | None]
    transform: str = ""  # which one decodes: another may make an image of what this one refuses, or the reverse
    refused: dict[bytes, str] = field(default_factory=dict)  # digests whose image decodes to nothing that can be stored

    def __post_init__(self) -> None:
        for row, found in enumerate(self.known):
            if found is not None and found.reason and found.transform != self.transform:
                self.known[row] = Known(found.stat, found.digest)

    def missing(self, store: FeatureStore, *, retry_failed: bool) -> npt.NDArray[np.int64]:
        """The rows that must be read: files that are new or have changed, and known ones that the store lacks."""
        digests = [found.digest if found else b"" for found in self.known]
        lacks = ~store.holds(digests_of(digests))
        failed = np.array([bool(reason) for reason in self.reasons()], dtype=bool)
        new = np.array([found is None for found in self.known], dtype=bool)
        return np.flatnonzero(new | (failed & retry_failed) | (lacks & ~failed))

    def forgive(self, store: FeatureStore) -> None:
        """An image that this store holds gave an embedding here, whatever became of it under another transform."""
        held = store.holds(digests_of([found.digest if found else b"" for found in self.known]))
        for row in np.flatnonzero(held):
            found = self.known[row]
            if found is not None and found.reason:
                self.known[row] = Known(found.stat, found.digest)

    def take(self, row: int, image: ImageRead, memory: StatLog) -> None:
        """Note what reading one row's file gave, here and in the cache's memory."""
        if image.failed and image.digest:
            self.refused[image.digest] = image.failed
        if image.stat is None:
            self.known[row] = Known((0, 0, 0, 0), b"", image.failed)
            return
        self.known[row] = Known(image.stat, image.digest, image.failed)
        memory.remember(
            self.listing.file(row), image.stat, image.digest, image.failed, read_at=image.read_at,
            transform=self.transform,
        )  # fmt: skip

    def remember_refused(self, store: FeatureStore) -> None:
        """Images whose embedding this store refused before are not tried again: they have not changed."""
        key = (self.listing.data_set, self.listing.variant, self.listing.split)
        if key in store.listings:
            try:
                before = store.listing(key)
            except CacheError:  # lost or damaged: this extract writes it again
                return
            for row in np.flatnonzero(np.array([bool(reason) for reason in before.reasons], dtype=bool)):
                digest = before.digests[row].tobytes()
                if any(digest):
                    self.refused[digest] = before.reasons[row]

    def reasons(self) -> tuple[str, ...]:
        """Why a row has no embedding, (rows,); "" where nothing speaks against it."""
        return tuple(
            "" if found is None else found.reason or self.refused.get(found.digest, "") for found in self.known
        )

    def extracted(self) -> Extracted:
        """The listing with what became of each row."""
        digests = [found.digest if found else b"" for found in self.known]
        return Extracted(self.listing, digests_of(digests), self.reasons())
