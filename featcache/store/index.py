"""Which row of which shard holds a digest: a sorted table, looked up many at a time."""

import numpy as np
import numpy.typing as npt

Digests = npt.NDArray[np.uint8]


class DigestIndex:
    """Digests in commit order -> their position there; of equal digests, the first committed one."""

    def __init__(self, digests: Digests) -> None:
        self._digests = digests  # (rows, 32)
        keys = _keys(digests)
        self._order = np.argsort(keys, kind="stable")  # (rows,): equal keys stay in commit order
        self._keys = keys[self._order]

    def find(self, wanted: Digests) -> npt.NDArray[np.int64]:
        """The position of each digest, (n,); -1 where there is none."""
        found = np.full(len(wanted), -1, dtype=np.int64)
        if not len(self._keys) or not len(wanted):
            return found
        keys = _keys(wanted)
        place = np.searchsorted(self._keys, keys)
        open_ = np.arange(len(wanted))
        while len(open_):  # once around, but for digests that share their first 8 bytes and differ after them
            open_ = open_[place[open_] < len(self._keys)]
            open_ = open_[self._keys[place[open_]] == keys[open_]]
            rows = self._order[place[open_]]
            same = (self._digests[rows] == wanted[open_]).all(axis=1)
            found[open_[same]] = rows[same]
            open_ = open_[~same]
            place[open_] += 1
        return found


def _keys(digests: Digests) -> npt.NDArray[np.uint64]:
    return np.ascontiguousarray(digests[:, :8]).view(">u8").astype(np.uint64)[:, 0]


def pack(digests: list[bytes]) -> Digests:
    """A list of 32-byte digests as (rows, 32) uint8."""
    return np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, 32)
