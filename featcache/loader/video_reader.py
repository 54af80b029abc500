"""The parent's side of the video loader: frames of many videos in, their images out, with bounded memory."""

import subprocess
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence

from featcache.errors import MachineError
from featcache.loader.process import TRIES, Workers, ask, tell
from featcache.loader.reader import ImageRead
from featcache.media import ImageTransform, ensure_decoder, frame_digest

Stat = tuple[int, int, int, int]


def read_frames(
    places: Sequence[tuple[str, int]],
    transform: ImageTransform,
    wanted: Callable[[bytes], bool],
    *,
    known: Mapping[str, tuple[Stat, bytes]],
    workers: int,
    ahead: int,
) -> Generator[ImageRead, None, None]:
    """Decode, where `wanted(digest)` says so, these frames, each (path of a video, number); one item for each.

    As `read_images`, but they come as they are decoded: a video from its start to its last wanted frame, once, and
    several videos at a time. `known` has the stat and the digest of videos that need not be hashed again.

    Raises:
        MachineError: PyAV is not installed, a worker cannot be started, or none stays alive.
    """
    ensure_decoder()
    pool = _Pool(places, transform, wanted, known, workers=workers, ahead=ahead)
    try:
        pool.begin()  # inside: Ctrl-C may come while the workers start
        yield from pool.results()
    finally:
        pool.close()


class _Pool(Workers):
    """A worker decodes whole videos, one after the other."""

    def __init__(
        self,
        places: Sequence[tuple[str, int]],
        transform: ImageTransform,
        wanted: Callable[[bytes], bool],
        known: Mapping[str, tuple[Stat, bytes]],
        *,
        workers: int,
        ahead: int,
    ) -> None:
        rows: dict[str, dict[int, list[int]]] = {}  # video -> frame -> its places in what was asked for
        for index, (path, frame) in enumerate(places):
            rows.setdefault(path, {}).setdefault(frame, []).append(index)
        super().__init__("video_worker", transform, workers=min(workers, max(1, len(rows))), ahead=ahead)
        self.count, self.wanted, self.known = len(places), wanted, known
        self.videos = deque(rows.items())  # this and `done` are guarded by the lock, as calls of `wanted` are
        self.done: deque[tuple[ImageRead, int | None]] = deque()

    def results(self) -> Iterator[ImageRead]:
        for _ in range(self.count):
            with self.lock:
                while not self.done and self.error is None:
                    self.lock.wait(timeout=1.0)  # a plain wait would not see Ctrl-C on every platform
                if not self.done:
                    assert self.error is not None  # noqa: S101 (the loop above ended)
                    raise self.error
                found, slot = self.done.popleft()
            yield found
            if slot is not None:
                self.free.put(slot)

    def serve(self, number: int) -> None:
        """Take the next video and have it decoded, until there is none."""
        while True:
            with self.lock:
                if self.closed or not self.videos:
                    return
                path, rows = self.videos.popleft()
            self._read(number, path, rows)

    def _read(self, number: int, path: str, rows: dict[int, list[int]]) -> None:
        decided: dict[bytes, set[int]] = {}  # a video's second worker decodes what the first one was to decode
        for _ in range(TRIES):
            process = self.process(number)
            try:
                return self._ask(process, path, rows, decided)
            except (EOFError, BrokenPipeError):
                died = self.bury(number)
                if self.closed:
                    return None
        if not self.answered:
            raise MachineError(f"no loader process stays alive ({died}); what it said stands above")
        # With its digest, so that the same bytes elsewhere learn of it; without a stat: it may have been the machine.
        digest = next(reversed(decided), b"")
        self._fail(rows, f"the decoder process died on it ({died})", digest)
        return None

    def _ask(
        self,
        process: subprocess.Popen[bytes],
        path: str,
        rows: dict[int, list[int]],
        decided: dict[bytes, set[int]],
    ) -> None:
        status, digest = self.known.get(path, (None, b""))
        known = None if status is None else {"stat": status, "digest": digest.hex()}
        begun = time.perf_counter()
        said = ask(process, {"path": path, "known": known})
        reading = time.perf_counter() - begun
        self.answered = True
        if "failed" in said:
            return self._fail(rows, said["failed"])
        digest, status, read_at = bytes.fromhex(said["digest"]), tuple(said["stat"]), said["read_at"]
        if digest not in decided:
            with self.lock:
                decided[digest] = {frame for frame in rows if self.wanted(frame_digest(digest, frame))}
        for frame in [frame for frame in rows if frame not in decided[digest]]:
            self._done(rows, frame, digest, status, read_at)
        frames = sorted(rows)
        tell(process, {"frames": frames})
        for frame in frames:
            slot = self.free.get()
            if slot is None:  # closing
                return None
            begun = time.perf_counter()
            try:
                said = ask(process, {"slot": slot})
            except (EOFError, BrokenPipeError):
                self.free.put(slot)
                raise
            if "failed" in said:
                self.free.put(slot)
                slot = None
            if "frame" not in said:
                return self._fail(rows, said["failed"], digest, status, read_at)
            seconds = (reading, time.perf_counter() - begun)
            self._done(rows, frame, digest, status, read_at, failed=said.get("failed", ""), slot=slot, seconds=seconds)
            reading = 0.0  # a video is read once
        return None

    def _done(
        self,
        rows: dict[int, list[int]],
        frame: int,
        video: bytes,
        status: Stat | None,
        read_at: int,
        *,
        failed: str = "",
        slot: int | None = None,
        seconds: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        """Hand one frame on, to every row that asked for it; the pixels, in a slot, to the first."""
        digest = frame_digest(video, frame) if video else b""
        with self.lock:
            for index in rows.pop(frame):
                pixels = None if slot is None else self.memory[slot]
                self.done.append((ImageRead(index, digest, status, read_at, failed, pixels, video, *seconds), slot))
                slot, seconds = None, (0.0, 0.0)
            self.lock.notify()

    def _fail(
        self,
        rows: dict[int, list[int]],
        reason: str,
        video: bytes = b"",
        status: Stat | None = None,
        read_at: int = 0,
    ) -> None:
        """Hand on that no further frame of a video comes."""
        for frame in list(rows):
            self._done(rows, frame, video, status, read_at, failed=reason)
