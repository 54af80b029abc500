"""DigestSet: digests that have been seen, 40 bytes each, whatever their number."""

import numpy as np
import numpy.typing as npt

from featcache.store.index import Digests, pack_digests

_RECENT = 1 << 16  # digests that are held one by one


class DigestSet:
    """A set of digests that only grows: the newest one by one, all others in a few sorted arrays."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self._recent: set[bytes] = set()
        self._runs: list[tuple[npt.NDArray[np.uint64], Digests]] = []  # their first 8 bytes, sorted, and the whole

    def __len__(self) -> int:
        return len(self._recent) + sum(len(first) for first, _ in self._runs)

    def __contains__(self, digest: bytes) -> bool:
        if digest in self._recent:
            return True
        first = np.frombuffer(digest[:8], dtype=np.uint64)[0]
        return any(_is_in(run, digests, first, digest) for run, digests in self._runs)

    def add(self, digest: bytes) -> None:
        """Add a digest that is not in the set.

        Args:
            digest: 32 bytes.
        """
        self._recent.add(digest)
        if len(self._recent) < _RECENT:
            return
        digests = pack_digests(list(self._recent))
        self._recent.clear()
        while self._runs and len(self._runs[-1][0]) < 2 * len(digests):
            digests = np.concatenate([self._runs.pop()[1], digests])
        first = np.ascontiguousarray(digests[:, :8]).view(np.uint64)[:, 0]
        order = np.argsort(first)
        self._runs.append((first[order], digests[order]))


def _is_in(first_bytes: npt.NDArray[np.uint64], digests: Digests, first: np.uint64, digest: bytes) -> bool:
    """Return whether a sorted run has a digest, which begins with the 8 bytes `first`."""
    at = int(first_bytes.searchsorted(first))
    while at < len(first_bytes) and first_bytes[at] == first:
        if digests[at].tobytes() == digest:
            return True
        at += 1
    return False
