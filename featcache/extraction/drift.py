"""How far the embeddings of this machine stand from those that a store holds.

Versions, hardware and batch size are not keyed, because they must not matter. So before rows are added by an
environment that this store has not seen, a few images that it holds are embedded again and compared: below the bound
they are taken for the same trunk's, beyond it the extract stops. `verify --deep` asks the same of any store.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from featcache.containers import split_member_path
from featcache.errors import CacheError
from featcache.extraction.drift_bounds import BOUNDS, DriftComparison
from featcache.files import StatLog
from featcache.listing import shown_path, video_and_frame
from featcache.loader import read_frames, read_images
from featcache.media import has_video_decoder
from featcache.store import ExtractedListing, FeatureStore, digest_column, is_same_provenance
from featcache.trunks import TrunkSpec

SAMPLE = 8  # images that an extract compares
_CANDIDATES = 64  # images of each listing that could be compared
_TRIED = 4  # … of so many times as many, because some may be gone


class Embedder(Protocol):
    """What a comparison needs of a trunk, wherever it is."""

    @property
    def spec(self) -> TrunkSpec:
        """Its identity."""

    @property
    def batch_size(self) -> int:
        """The most images that it is given at once."""

    def embed(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return the embeddings, (n, dim), of (n, 3, crop, crop) pixels."""

    def provenance(self) -> dict[str, Any]:
        """Return versions and hardware."""


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image whose embedding a store holds."""

    file: str  # absolute; of a frame: its video, and its number; of an image in a container: that, and its key
    digest: bytes
    is_frame: bool
    is_member: bool = False  # of a container


def has_been_compared(store: FeatureStore, provenance: Mapping[str, Any]) -> bool:
    """Return whether this environment made the store's first rows, or was compared with them.

    Where none of the store's images could be read then, it was not.
    """
    entries = (entry for entry in store.trunk.provenance if is_same_provenance(entry, provenance))
    return not store.rows or any(_was_compared(entry) for entry in entries)


def images_to_compare(store: FeatureStore, extracted: ExtractedListing) -> list[StoredImage]:
    """Return images of the listing that is extracted now, and of those that the store was given before.

    Raises:
        CacheError: the digests of a shard do not match the log.
    """
    listings = (extracted, *readable_listings(store))
    return [image for listing in listings for image in drift_candidates(store, listing, _CANDIDATES)]


def refuse_drift(store: FeatureStore, comparison: DriftComparison, provenance: Mapping[str, Any]) -> None:
    """Refuse to add rows where images of the store came out differently.

    Args:
        store: What holds them.
        comparison: What `compare_drift` gave.
        provenance: What computed them now.

    Raises:
        CacheError: they did; the message names both environments.
    """
    if comparison.is_within_bound(store.trunk.spec.compute):
        return
    entry = provenance_of(store, comparison.digest)
    then = "not recorded" if entry is None else describe_provenance(entry)
    raise CacheError(
        f"{store.root}: images that this store holds come out differently here: "
        f"{comparison.describe(store.trunk.spec.compute)}; the worst is {shown_path(comparison.worst)}.\n"
        f"  the store: {then}\n  here:      {describe_provenance(provenance)}\n"
        f"Nothing was added. Extract where the store was made, or into another --cache."
    )


def compare_drift(
    store: FeatureStore, images: Sequence[StoredImage], embedder: Embedder, *, workers: int, sample: int = SAMPLE
) -> DriftComparison:
    """Embed a few images that the store holds once more, and compare.

    Args:
        store: What holds their embeddings.
        images: They are tried in an even spread until enough of them were found unchanged.
        embedder: The trunk, here.
        workers: How many processes read the images.
        sample: How many images to compare.

    Returns:
        The distances, and which image is furthest off its bound; of 0 images where none is unchanged.

    Raises:
        CacheError: a shard that holds one of the embeddings does not match the log.
        MachineError: a worker process or the device fails.
    """
    tried = _spread(images, _TRIED * sample)
    unchanged: list[tuple[StoredImage, npt.NDArray[np.uint8]]] = []
    for is_frame in (False, True):
        part = [image for image in tried if image.is_frame == is_frame]
        if part and len(unchanged) < sample and (not is_frame or has_video_decoder()):
            missing = sample - len(unchanged)
            unchanged += _read_unchanged(part, store.stat_log, embedder, workers=workers, sample=missing)
    if not unchanged:
        return DriftComparison(0)
    stored = store.load(digest_column([image.digest for image, _ in unchanged]))
    pixels = np.stack([pixels for _, pixels in unchanged])
    step = embedder.batch_size
    again = np.concatenate([embedder.embed(pixels[start : start + step]) for start in range(0, len(pixels), step)])
    again = again.astype(store.trunk.spec.stored).astype(np.float32)  # what would be stored of it
    cosine, norm = embedding_distances(stored, again)
    bound = BOUNDS[store.trunk.spec.compute]
    worst = int(np.argmax(np.nan_to_num(np.maximum(cosine / bound.cosine, norm / bound.norm), nan=np.inf)))
    image = unchanged[worst][0]
    return DriftComparison(
        len(unchanged), float(cosine.max()), float(cosine.mean()), float(norm.max()), image.file, image.digest
    )


def drift_candidates(store: FeatureStore, extracted: ExtractedListing, count: int) -> list[StoredImage]:
    """Return images of a listing whose embedding the store holds, evenly spread.

    Of videos, the earliest frames: a frame costs the decoding of all that stand before it.

    Args:
        store: What holds the embeddings.
        extracted: The listing, with the digest of each row.
        count: At most so many.

    Raises:
        CacheError: the digests of a shard do not match the log.
    """
    listing = extracted.listing
    held = np.flatnonzero(store.holds(extracted.digests))
    if listing.videos:
        numbers = [video_and_frame(listing.paths[row])[1] for row in held.tolist()]
        rows = held[np.argsort(numbers, kind="stable")[:count]]
    else:
        rows = held[np.unique(np.linspace(0, len(held) - 1, count).astype(int))] if len(held) else held
    digests, kind = extracted.digests, (listing.videos, listing.members)
    return [StoredImage(listing.file(int(row)), digests[row].tobytes(), *kind) for row in rows]


def readable_listings(store: FeatureStore) -> Iterator[ExtractedListing]:
    """Yield the listings of a store that can be read.

    Args:
        store: Whose newest listings are meant, one of each data set, variant and split.
    """
    for key in store.listings:
        with contextlib.suppress(CacheError):  # lost or damaged: an extract of that split writes it again
            yield store.listing(key)


def embedding_distances(
    before: npt.NDArray[np.float32], after: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return 1 - cosine, and |ratio of norms - 1|, of each pair of rows, (n,) both.

    Args:
        before: (n, dim) embeddings.
        after: (n, dim) embeddings of the same images.

    Returns:
        Two arrays; nan where a row is zero or not finite, and 0 where two rows are equal.
    """
    a, b = before.astype(np.float64), after.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        # 1 - cosine as half the square of the difference of the unit vectors: no cancellation near 0
        cosine = ((a / lengths[0][:, None] - b / lengths[1][:, None]) ** 2).sum(axis=1) / 2
        norm = np.abs(lengths[1] / lengths[0] - 1)
    is_same = (a == b).all(axis=1)  # two rows of zeros are the same row
    return np.where(is_same, 0.0, cosine), np.where(is_same, 0.0, norm)


def describe_provenance(entry: Mapping[str, Any]) -> str:
    """Return in words what computed embeddings: hardware, engine, batch, versions.

    Args:
        entry: As a trunk's `provenance` returns it, and trunk.json has it.
    """
    versions = ", ".join(f"{name} {number}" for name, number in dict(entry.get("versions", {})).items())
    device, engine, batch = (entry.get(name, "?") for name in ("device", "engine", "batch_size"))
    return f"{device}, {engine}, batches of {batch}, {versions}"


def provenance_of(store: FeatureStore, digest: bytes) -> Mapping[str, Any] | None:
    """Return what computed an embedding of this store, as trunk.json has it; None where it is not recorded.

    Args:
        store: What holds the embedding.
        digest: Of the image, 32 bytes.

    Raises:
        CacheError: the digests of a shard do not match the log.
    """
    shard = store.find_shard(digest)
    entries = store.trunk.provenance
    return None if shard is None or shard.made is None or shard.made >= len(entries) else entries[shard.made]


def _was_compared(entry: Mapping[str, Any]) -> bool:
    comparison = entry.get("drift")
    return comparison is None or (isinstance(comparison, Mapping) and bool(comparison.get("compared")))


def _spread(images: Sequence[StoredImage], count: int) -> list[StoredImage]:
    """Return `count` of these images, evenly spread, in an order whose every beginning is evenly spread, too."""
    places = np.unique(np.linspace(0, max(len(images) - 1, 0), min(count, len(images))).astype(int))
    # Every other one first, then those between: however early the reading ends, the spread is even.
    chosen = [images[place] for place in places]
    return [*chosen[::2], *chosen[1::2]]


def _read_unchanged(
    tried: Sequence[StoredImage], stat_log: StatLog, embedder: Embedder, *, workers: int, sample: int
) -> list[tuple[StoredImage, npt.NDArray[np.uint8]]]:
    """Return those of these images that are still what they were, decoded; at most `sample`."""
    wanted = {image.digest for image in tried}
    transform, views, ahead = embedder.spec.transform, (embedder.spec.view,), min(sample, len(tried))
    if tried[0].is_frame:
        frames = [video_and_frame(image.file) for image in tried]
        videos = stat_log.find_readable(video for video, _ in frames)
        reading = read_frames(
            frames, transform, wanted.__contains__, known=videos, views=views, workers=workers, ahead=ahead
        )
    else:
        files = [split_member_path(image.file) if image.is_member else image.file for image in tried]
        reading = read_images(files, transform, wanted.__contains__, views=views, workers=workers, ahead=ahead)
    unchanged: list[tuple[StoredImage, npt.NDArray[np.uint8]]] = []
    with contextlib.closing(reading):
        for read in reading:
            image = tried[read.index]
            if read.pixels is not None and read.digest == image.digest:
                unchanged.append((image, read.pixels.copy()))  # the loader uses its memory again
            if len(unchanged) == sample:
                break
    return unchanged
