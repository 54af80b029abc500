"""How far the embeddings of this machine stand from those that a store holds.

Versions, hardware and batch size are not keyed, because they must not matter. So before rows are added by a making that
this store has not seen, a few images that it holds are embedded again and compared: below the bound they are taken for
the same trunk's, beyond it the extract stops. `verify --deep` asks the same of any store.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from featcache.errors import CacheError
from featcache.files import StatLog
from featcache.listing import shown_path, video_and_frame
from featcache.loader import read_frames, read_images
from featcache.media import decodes
from featcache.store import Extracted, FeatureStore, digests_of, same_making
from featcache.trunks import TrunkSpec

SAMPLE = 8  # images that an extract compares
_CANDIDATES = 64  # images of each listing that could be compared
_TRIED = 4  # … of so many times as many, because some may be gone


class Trunk(Protocol):
    """What a comparison needs of a trunk, wherever it is."""

    @property
    def spec(self) -> TrunkSpec:
        """Its identity."""

    @property
    def batch_size(self) -> int:
        """The most images that it is given at once."""

    def embed(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """(n, 3, crop, crop) -> (n, dim)."""

    def made(self) -> dict[str, Any]:
        """Versions and hardware."""


@dataclass(frozen=True, slots=True)
class Bound:
    """What still counts as the same trunk; `bench/drift.py` has the measurements, docs/format.md states them."""

    cosine: float  # 1 - cosine of the two embeddings of an image
    norm: float  # how far the ratio of their norms is from 1


# Between what another batch size, thread count or instruction set does and what another transform or precision does.
BOUNDS = {"float32": Bound(1e-6, 1e-5), "bfloat16": Bound(2e-4, 2e-3)}


@dataclass(frozen=True, slots=True)
class Drift:
    """What a comparison gave: the worst image of those that could be compared."""

    compared: int  # images; 0 where none of those that the store holds is still there
    cosine: float = 0.0  # 1 - cosine
    norm: float = 0.0  # |ratio of the norms - 1|
    worst: str = ""  # the path of the image that is furthest off its bound
    digest: bytes = b""  # … and its digest

    def within(self, compute: str) -> bool:
        """Whether this is the same trunk, as far as the bound of its precision says."""
        bound = BOUNDS[compute]
        return self.cosine <= bound.cosine and self.norm <= bound.norm  # nan is within nothing

    def to_json(self) -> dict[str, Any]:
        """As trunk.json and `--json` have it."""
        return {"compared": self.compared, "cosine_distance": self.cosine, "norm_change": self.norm}

    def sentence(self, compute: str) -> str:
        """In words."""
        bound = BOUNDS[compute]
        return (
            f"{self.compared} images compared: 1 - cosine at most {self.cosine:.1e} (allowed in {compute}: "
            f"{bound.cosine:.0e}), norm changed by at most {self.norm:.1e} (allowed: {bound.norm:.0e})"
        )


@dataclass(frozen=True, slots=True)
class Held:
    """An image whose embedding a store holds."""

    file: str  # absolute; of a frame: its video, and its number
    digest: bytes
    video: bool


def is_proven(store: FeatureStore, made: Mapping[str, Any]) -> bool:
    """Whether this making made the store's first rows, or was held against them; not where nothing was compared."""
    return not store.rows or any(same_making(entry, made) and _was_compared(entry) for entry in store.trunk.made)


def prove(store: FeatureStore, now: Extracted, trunk: Trunk, *, workers: int) -> Drift:
    """Compare images of the listing that is extracted now, and of those that the store was given before.

    Raises:
        CacheError: they come out otherwise here; the message names both environments.
    """
    held = [one for extracted in (now, *extracted_by(store)) for one in drift_candidates(store, extracted, _CANDIDATES)]
    found = compare_drift(store, held, trunk, workers=workers)
    if found.within(store.trunk.spec.compute):
        return found
    before = maker_of(store, found.digest)
    then = "nobody noted where" if before is None else environment(before)
    raise CacheError(
        f"{store.root}: images that this store holds come out otherwise here: "
        f"{found.sentence(store.trunk.spec.compute)}; the worst is {shown_path(found.worst)}.\n"
        f"  the store: {then}\n  here:      {environment(trunk.made())}\n"
        f"Nothing was added. Extract where the store was made, or into another --cache."
    )


def compare_drift(
    store: FeatureStore, held: Sequence[Held], trunk: Trunk, *, workers: int, sample: int = SAMPLE
) -> Drift:
    """Embed a few images that the store holds once more and compare.

    `held` are tried in an even spread until `sample` of them were found unchanged.
    """
    tried = _spread(held, _TRIED * sample)
    found: list[tuple[Held, npt.NDArray[np.uint8]]] = []
    for video in (False, True):
        part = [one for one in tried if one.video == video]
        if part and len(found) < sample and (not video or decodes()):
            found += _read(part, store.known, trunk, workers=workers, sample=sample - len(found))
    if not found:
        return Drift(0)
    stored = store.load(digests_of([one.digest for one, _ in found]))
    pixels = np.stack([picture for _, picture in found])
    step = trunk.batch_size
    again = np.concatenate([trunk.embed(pixels[start : start + step]) for start in range(0, len(pixels), step)])
    again = again.astype(store.trunk.spec.stored).astype(np.float32)  # what would be stored of it
    cosine, norm = distances(stored, again)
    bound = BOUNDS[store.trunk.spec.compute]
    worst = int(np.argmax(np.nan_to_num(np.maximum(cosine / bound.cosine, norm / bound.norm), nan=np.inf)))
    return Drift(len(found), float(cosine.max()), float(norm.max()), found[worst][0].file, found[worst][0].digest)


def drift_candidates(store: FeatureStore, extracted: Extracted, count: int) -> list[Held]:
    """At most `count` rows of a listing whose embedding the store holds, evenly spread.

    Of videos, the earliest frames: a frame costs the decoding of all that stand before it.
    """
    listing = extracted.listing
    held = np.flatnonzero(store.holds(extracted.digests))
    if listing.videos:
        rows = held[np.argsort([video_and_frame(listing.paths[row])[1] for row in held], kind="stable")[:count]]
    else:
        rows = held[np.unique(np.linspace(0, len(held) - 1, count).astype(int))] if len(held) else held
    return [Held(listing.file(int(row)), extracted.digests[row].tobytes(), listing.videos) for row in rows]


def extracted_by(store: FeatureStore) -> Iterator[Extracted]:
    """The listings of a store that can be read."""
    for key in store.listings:
        with contextlib.suppress(CacheError):  # lost or damaged: an extract of that split writes it again
            yield store.listing(key)


def distances(
    one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """1 - cosine, and |ratio of norms - 1|, of each pair of rows, (n,) both; nan where a row is zero or not finite."""
    a, b = one.astype(np.float64), other.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        # 1 - cosine as half the square of the difference of the unit vectors: no cancellation near 0
        cosine = ((a / lengths[0][:, None] - b / lengths[1][:, None]) ** 2).sum(axis=1) / 2
        norm = np.abs(lengths[1] / lengths[0] - 1)
    same = (a == b).all(axis=1)  # two rows of zeros are the same row
    return np.where(same, 0.0, cosine), np.where(same, 0.0, norm)


def environment(made: Mapping[str, Any]) -> str:
    """A making in words: hardware, engine, batch, versions."""
    versions = ", ".join(f"{name} {number}" for name, number in dict(made.get("versions", {})).items())
    return f"{made.get('device', '?')}, {made.get('engine', '?')}, batches of {made.get('batch_size', '?')}, {versions}"


def maker_of(store: FeatureStore, digest: bytes) -> Mapping[str, Any] | None:
    """What computed an embedding of this store, as trunk.json has it; None where nobody noted it."""
    part = store.shard_of(digest)
    made = store.trunk.made
    return None if part is None or part.made is None or part.made >= len(made) else made[part.made]


def _was_compared(entry: Mapping[str, Any]) -> bool:
    compared = entry.get("drift")
    return compared is None or (isinstance(compared, Mapping) and bool(compared.get("compared")))


def _spread(held: Sequence[Held], count: int) -> list[Held]:
    places = np.unique(np.linspace(0, max(len(held) - 1, 0), min(count, len(held))).astype(int))
    # Every other one first, then those between: however early the reading ends, the spread is even.
    chosen = [held[place] for place in places]
    return [*chosen[::2], *chosen[1::2]]


def _read(
    tried: Sequence[Held], known: StatLog, trunk: Trunk, *, workers: int, sample: int
) -> list[tuple[Held, npt.NDArray[np.uint8]]]:
    """Those of these images that are still what they were, decoded; at most `sample`."""
    wanted = {one.digest for one in tried}
    transform, ahead = trunk.spec.transform, min(sample, len(tried))
    if tried[0].video:
        places = [video_and_frame(one.file) for one in tried]
        videos = known.sound(video for video, _ in places)
        images = read_frames(places, transform, wanted.__contains__, known=videos, workers=workers, ahead=ahead)
    else:
        files = [one.file for one in tried]
        images = read_images(files, transform, wanted.__contains__, workers=workers, ahead=ahead)
    found: list[tuple[Held, npt.NDArray[np.uint8]]] = []
    with contextlib.closing(images):
        for image in images:
            one = tried[image.index]
            if image.pixels is not None and image.digest == one.digest:
                found.append((one, image.pixels.copy()))  # the loader uses its memory again
            if len(found) == sample:
                break
    return found
