"""What is known of each row of a listing while it is extracted.

An extract that was stopped goes on where it was: it reads the rows that the store does not hold yet, and no others.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import overload

import numpy as np
import numpy.typing as npt

from featcache.containers import MemberPath, split_member_path
from featcache.errors import CacheError, DataError
from featcache.files import KnownFile, KnownFiles, StatLog
from featcache.listing import CodedColumn, Listing, find_filled, shown_path, video_and_frame
from featcache.loader import ImageRead
from featcache.media import frame_digest
from featcache.store import DigestIndex, Digests, ExtractedListing, FeatureStore, pack_digests
from featcache.text import counted, percent

_NAMED = 5  # bad images that an error names


def _container_of(file: str) -> str:
    return split_member_path(file).container


class FilesOfRows(Sequence[str | MemberPath]):
    """What is read of some rows' images, as `Listing.image_path` returns it, each made when it is asked for."""

    def __init__(self, listing: Listing, rows: npt.NDArray[np.int64]) -> None:
        """Name the images of some rows.

        Args:
            listing: The listing.
            rows: Which of its rows, (n,).
        """
        self._listing, self._rows = listing, rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, at: int) -> str | MemberPath: ...
    @overload
    def __getitem__(self, at: slice) -> "FilesOfRows": ...
    def __getitem__(self, at: int | slice) -> "str | MemberPath | FilesOfRows":
        if isinstance(at, slice):
            return FilesOfRows(self._listing, self._rows[at])
        return self._listing.image_path(int(self._rows[at]))


@dataclass(slots=True, eq=False)
class RowStates:
    """What is known of each row while an extract runs."""

    listing: Listing
    known_files: KnownFiles
    transform: str = ""  # which one decodes: another may make an image of what this one refuses, or the reverse
    refused: dict[bytes, str] = field(default_factory=dict)  # digests whose image decodes to nothing that can be stored
    # Which rows a store held when it was last asked, and which store that was.
    _held: tuple[FeatureStore, npt.NDArray[np.bool_]] | None = None

    @classmethod
    def remembered(cls, listing: Listing, stat_log: StatLog, transform: str) -> "RowStates":
        """Return the rows, with what the cache remembers of them."""
        if not listing.videos:
            container_of = _container_of if listing.members else None
            stats = None if listing.stats is None else map(np.ndarray.tolist, listing.stats)
            return cls(listing, stat_log.look_up(listing.iter_files(), container_of, stats), transform)
        videos = stat_log.find_readable(video_and_frame(file)[0] for file in listing.iter_files())
        known_files = KnownFiles(len(listing))
        for row, file in enumerate(listing.iter_files()):
            video, frame = video_and_frame(file)
            if video not in videos:
                continue
            status, video_digest = videos[video]
            digest = frame_digest(video_digest, frame)
            failed = stat_log.find(file, status)
            known_files[row] = (
                KnownFile(status, digest)
                if failed is None
                else KnownFile(status, digest, failed.reason, failed.transform)
            )
        return cls(listing, known_files, transform)

    def __post_init__(self) -> None:
        self.known_files = KnownFiles.of(self.known_files)
        self.known_files.forget_reasons(self.known_files.failed_otherwise(self.transform))

    def missing(self, store: FeatureStore, *, retry_failed: bool) -> npt.NDArray[np.int64]:
        """Return the rows that must be read: files that are new or changed, and known ones that the store lacks."""
        lacks = ~self._is_held(store)
        has_failed = find_filled(self.reasons())
        is_new = ~self.known_files.is_known
        return np.flatnonzero(is_new | (has_failed & retry_failed) | (lacks & ~has_failed))

    def forget_failures_of_held(self, store: FeatureStore) -> None:
        """Forget why an image failed under another transform where this store holds its embedding."""
        self.known_files.forget_reasons(self._is_held(store))

    def copy(self) -> "RowStates":
        """Return the same for another store: what is learnt of one is not of the other."""
        return RowStates(self.listing, self.known_files.copy(), self.transform)

    def record_read(self, row: int, image: ImageRead, stat_log: StatLog) -> None:
        """Note what reading one row's file gave, here and in the cache's stat log."""
        self.note_read(row, image)
        if image.stat is None:
            return
        file = self.listing.file(row)
        if image.video:  # of a frame, only that it failed is remembered; the rest follows from its video
            stat_log.remember(video_and_frame(file)[0], image.stat, image.video, read_at=image.read_at)
            if not image.failed and stat_log.find(file, image.stat) is None:
                return
        stat_log.remember(file, image.stat, image.digest, image.failed, read_at=image.read_at, transform=self.transform)

    def note_read(self, row: int, image: ImageRead) -> None:
        """Note what reading one row's file gave, here alone."""
        self._held = None
        if self._is_of_another_container(row, image):
            self.known_files[row] = KnownFile((0, 0, 0, 0), b"", "its container changed since its labels were read")
            return
        if image.failed and image.digest:
            self.refused[image.digest] = image.failed
        if image.stat is None:
            self.known_files[row] = KnownFile((0, 0, 0, 0), b"", image.failed)
            return
        self.known_files[row] = KnownFile(image.stat, image.digest, image.failed)

    def _is_of_another_container(self, row: int, image: ImageRead) -> bool:
        """Return whether an image is of a newer version of its container than its label: a key may mean another now."""
        stats = self.listing.stats
        return (
            self.listing.members and stats is not None and image.stat is not None
            and image.stat != tuple(stats[row].tolist())
        )  # fmt: skip

    def remember_refused(self, store: FeatureStore) -> None:
        """Leave out images whose embedding this store refused before: they have not changed."""
        key = (self.listing.data_set, self.listing.variant, self.listing.split)
        if key in store.listings:
            try:
                before = store.listing(key)
            except CacheError:  # lost or damaged: this extract writes it again
                return
            for row in np.flatnonzero(find_filled(before.reasons)).tolist():
                digest = before.digests[row].tobytes()
                if any(digest):
                    self.refused[digest] = before.reasons[row]

    def reasons(self) -> Sequence[str]:
        """Return why a row has no embedding, (rows,); "" where nothing speaks against it."""
        codes, texts = self.known_files.reasons.copy(), list(self.known_files.texts)
        if self.refused:
            place = DigestIndex(pack_digests(list(self.refused))).find(self._digests())
            of_image = (place >= 0) & (codes == 0) & self.known_files.is_known
            codes[of_image] = len(texts) + place[of_image]
            texts += self.refused.values()
        return CodedColumn(texts, codes)

    def extracted(self) -> ExtractedListing:
        """Return the listing with what became of each row; its digests are those of this object, and not copied."""
        return ExtractedListing(self.listing, self._digests(), self.reasons())

    def _digests(self) -> Digests:
        return self.known_files.digests

    def _is_held(self, store: FeatureStore) -> npt.NDArray[np.bool_]:
        """Return which rows' images a store holds, (rows,); asked once of the same snapshot."""
        if self._held is None or self._held[0] is not store:
            self._held = store, store.holds(self._digests())
        return self._held[1]


def look_up_files(listing: Listing, stat_log: StatLog, transform: str) -> KnownFiles:
    """Return what the cache remembers of the file of each row; nothing of one that has changed since.

    Args:
        listing: The rows.
        stat_log: The cache's memory of files.
        transform: Which one decodes, as `ImageTransform.key` has it.
    """
    return RowStates.remembered(listing, stat_log, transform).known_files


def refuse_too_many(
    listing: Listing, reasons: Sequence[str], max_bad: float, *, read: int | None = None, is_fixed: bool = False
) -> None:
    """Raise a DataError where more images are bad than `max_bad` allows.

    Args:
        listing: The split that is extracted.
        reasons: Why each row has no embedding, (rows,); "" where nothing speaks against it.
        max_bad: The share of images that may be bad.
        read: How many images were looked at so far; None: all.
        is_fixed: Whether the command has no option that allows more.

    Raises:
        DataError: more are bad than `max_bad` allows; the message names the first ones.
    """
    looked_at = len(listing) if read is None else max(read, 1)
    bad = np.flatnonzero(find_filled(reasons)).tolist()
    if len(bad) <= max_bad * len(listing):
        return
    shown = "".join(f"\n  {shown_path(listing.paths[row])}: {reasons[row]}" for row in bad[:_NAMED])
    more = f"\n  … and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
    refused = (
        f"{listing.root}: {len(bad):,} of {counted(len(listing), 'image')} of split {listing.split!r} cannot be used"
    )
    if is_fixed:
        raise DataError(
            f"{refused}, more than the {percent(max_bad, 2)} that may be left out.{shown}{more}\nRepair or remove them."
        )
    enough = min(1.0, float(np.ceil(200 * len(bad) / looked_at)) / 100)
    so_far = "" if looked_at >= len(listing) else f" (the run stopped after {counted(looked_at, 'image')})"
    error = DataError(
        f"{refused}, more than the {percent(max_bad, 2)} that --max-bad allows{so_far}; "
        f"what was embedded is kept.{shown}{more}\n"
        f"Repair or remove them, or run again with --max-bad {enough:g} to leave them out."
    )
    raise error.correct("--max-bad", f"{enough:g}")
