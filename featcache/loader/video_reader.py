"""The parent's side of the video loader: frames of many videos in, their images out, with bounded memory."""

import subprocess
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from featcache.errors import MachineError
from featcache.files import FileStat
from featcache.loader.pool import MAX_TRIES, WorkerPool
from featcache.loader.process import request, send
from featcache.loader.reader import PLAIN, ImageRead
from featcache.media import ImageTransform, View, frame_digest, require_video_decoder


def read_frames(
    frames: Sequence[tuple[str, int]],
    transform: ImageTransform,
    is_wanted: Callable[[bytes], bool],
    *,
    known: Mapping[str, tuple[FileStat, bytes]],
    views: Sequence[View | None] = PLAIN,
    workers: int,
    ahead: int,
) -> Generator[ImageRead, None, None]:
    """Decode those of these frames that are wanted, and yield what became of each.

    As `read_images`, but they come as they are decoded: a video from its start to its last wanted frame, once, and
    several videos at a time.

    Args:
        frames: (path of a video, number of a frame, from 0) each.
        transform: What is done to each frame.
        is_wanted: Says of a frame's digest whether it is to be decoded; called in other threads, one call at a time.
        known: By path, the stat and the sha256 of videos that need not be hashed again.
        views: Which of each frame are made; None is the plain one.
        workers: At most so many processes decode.
        ahead: At most so many frames are held decoded.

    Yields:
        An `ImageRead` for each frame, in any order.

    Raises:
        MachineError: PyAV is not installed, a worker cannot be started, or none stays alive.
    """
    require_video_decoder()
    pool = _VideoPool(frames, transform, is_wanted, known=known, views=views, workers=workers, ahead=ahead)
    try:
        pool.begin()  # inside: Ctrl-C may come while the workers start
        yield from pool.results()
    finally:
        pool.close()


@dataclass(slots=True, eq=False)
class _Video:
    """One video, and what is known of it while its frames are read."""

    path: str
    remaining: dict[int, list[int]]  # frame -> its places in what was asked for; of those that are not handed on
    # By digest, the frames to decode: a video's second worker decodes what the first one was to decode.
    decided: dict[bytes, set[int]] = field(default_factory=dict)
    digest: bytes = b""
    status: FileStat | None = None
    read_at: int = 0


class _VideoPool(WorkerPool):
    """A worker decodes whole videos, one after the other."""

    def __init__(
        self,
        frames: Sequence[tuple[str, int]],
        transform: ImageTransform,
        is_wanted: Callable[[bytes], bool],
        *,
        known: Mapping[str, tuple[FileStat, bytes]],
        views: Sequence[View | None],
        workers: int,
        ahead: int,
    ) -> None:
        rows: dict[str, dict[int, list[int]]] = {}  # video -> frame -> its places in what was asked for
        for index, (path, frame) in enumerate(frames):
            rows.setdefault(path, {}).setdefault(frame, []).append(index)
        super().__init__("video_worker", transform, views, workers=min(workers, max(1, len(rows))), ahead=ahead)
        self.count, self.is_wanted, self.known = len(frames), is_wanted, known
        self.videos = deque(rows.items())  # this and `done` are guarded by the lock, as calls of `is_wanted` are
        self.done: deque[tuple[ImageRead, int | None]] = deque()  # with the slot to give back

    def results(self) -> Iterator[ImageRead]:
        """Yield what became of each frame, as it comes."""
        for _ in range(self.count):
            with self.lock:
                while not self.done and self.error is None:
                    self.lock.wait(timeout=1.0)  # a plain wait would not see Ctrl-C on every platform
                if not self.done:
                    assert self.error is not None  # noqa: S101 (the loop above ended)
                    raise self.error
                image, slot = self.done.popleft()
            yield image
            if slot is not None:
                self.free.put(slot)

    def serve(self, number: int) -> None:
        """Take the next video and have it decoded, until there is none."""
        while True:
            with self.lock:
                if self.is_closed or not self.videos:
                    return
                path, rows = self.videos.popleft()
            self._read(number, _Video(path, rows))

    def _read(self, number: int, video: _Video) -> None:
        """Have a video decoded; by a second worker where the first one dies of it."""
        for _ in range(MAX_TRIES):
            process = self.ensure_process(number)
            try:
                return self._request(process, video)
            except (EOFError, BrokenPipeError):
                ending = self.replace_dead(number)
                if self.is_closed:
                    return None
        if not self.has_answered:
            raise MachineError(f"the loader processes keep crashing ({ending}); their output is above")
        # With its digest, so that the same bytes elsewhere learn of it; without a stat: it may have been the machine.
        video.digest, video.status, video.read_at = next(reversed(video.decided), b""), None, 0
        self._fail(video, f"the decoder process crashed on it ({ending})")
        return None

    def _request(self, process: subprocess.Popen[bytes], video: _Video) -> None:
        """Have the frames of a video that are wanted decoded by this process, and hand all of them on."""
        video.digest, video.status, video.read_at = b"", None, 0  # of an earlier worker, which died
        status, digest = self.known.get(video.path, (None, b""))
        known = None if status is None else {"stat": status, "digest": digest.hex()}
        begun = time.perf_counter()
        identity = request(process, {"path": video.path, "known": known})
        reading = time.perf_counter() - begun
        self.has_answered = True
        if "failed" in identity:
            return self._fail(video, identity["failed"])
        video.digest, video.status = bytes.fromhex(identity["digest"]), tuple(identity["stat"])
        video.read_at = identity["read_at"]
        self._decide(video)
        frames = sorted(video.remaining)
        send(process, {"frames": frames})
        for frame in frames:
            slot = self.free.get()
            if slot is None:  # closing
                return None
            begun = time.perf_counter()
            try:
                outcome = request(process, {"slot": slot})
            except (EOFError, BrokenPipeError):
                self.free.put(slot)
                raise
            if "failed" in outcome:
                self.free.put(slot)
                slot = None
            if "frame" not in outcome:
                return self._fail(video, outcome["failed"])
            seconds = (reading, time.perf_counter() - begun)
            self._finish(video, frame, failed=outcome.get("failed", ""), slot=slot, seconds=seconds)
            reading = 0.0  # a video is read once
        return None

    def _decide(self, video: _Video) -> None:
        """Hand on the frames that are not wanted."""
        if video.digest not in video.decided:
            with self.lock:
                video.decided[video.digest] = {
                    frame for frame in video.remaining if self.is_wanted(frame_digest(video.digest, frame))
                }
        for frame in [frame for frame in video.remaining if frame not in video.decided[video.digest]]:
            self._finish(video, frame)

    def _finish(
        self,
        video: _Video,
        frame: int,
        *,
        failed: str = "",
        slot: int | None = None,
        seconds: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        """Hand one frame on, to every row that asked for it; the pixels, in a slot, to the first."""
        digest = frame_digest(video.digest, frame) if video.digest else b""
        views = None if slot is None else self.memory[slot]
        with self.lock:
            for index in video.remaining.pop(frame):
                image = ImageRead(
                    index, digest, video.status, video.read_at, failed, video=video.digest,
                    pixels=None if views is None else views[0], views=views, reading=seconds[0], decoding=seconds[1],
                )  # fmt: skip
                self.done.append((image, slot))
                slot, views, seconds = None, None, (0.0, 0.0)
            self.lock.notify()

    def _fail(self, video: _Video, reason: str) -> None:
        """Hand on that no further frame of a video comes."""
        for frame in list(video.remaining):
            self._finish(video, frame, failed=reason)
