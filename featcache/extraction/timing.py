"""Where the time of an extract goes, and the one sentence that says what holds it back.

The main loop does one thing at a time: it waits for an image, waits for a device, or writes; the devices compute
meanwhile. A moment counts as the device's where it computes; where it does not, as what the main loop did, since that
is what the device had to wait for. Of several devices each has its share of the moment. What the loader's processes
do (read, decode) is counted in their own seconds; it matters where the devices wait for them.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal

from featcache.media import Decoder

Kind = Literal["starting", "waiting", "computing", "writing"]
MOST_WORKERS = 1024  # that --workers takes
KINDS: tuple[Kind, ...] = ("starting", "waiting", "computing", "writing")


@dataclass(slots=True)
class Account:
    """Seconds by what they were spent on."""

    workers: int
    cores: int
    device: str = "device"  # as a person calls it
    decoder: Decoder = "pillow"
    compute: str = "float32"
    images: int = 2**62  # that are to be read: no more workers have something to do
    videos: bool = False  # the images are frames of videos, on which --decode has no effect
    devices: int = 1
    spent: dict[Kind, float] = field(default_factory=lambda: dict.fromkeys(KINDS, 0.0))  # of a device, on average
    reading: float = 0.0  # of the loader's processes, all together
    decoding: float = 0.0
    _doing: Kind | None = field(default=None, init=False)  # the main loop
    _computing: int = field(default=0, init=False)  # devices that compute now
    _since: float = field(default=0.0, init=False)  # when one of these two changed
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    @contextmanager
    def time(self, kind: Kind) -> Iterator[None]:
        """What the main loop does inside."""
        with self._lock:
            self._count()
            self._doing = kind
        try:
            yield
        finally:
            with self._lock:
                self._count()
                self._doing = None

    @contextmanager
    def computing(self) -> Iterator[None]:
        """One device computes inside; called in its thread."""
        with self._lock:
            self._count()
            self._computing += 1
        try:
            yield
        finally:
            with self._lock:
                self._count()
                self._computing -= 1

    def _count(self) -> None:
        """Add the time since the last change to what was done in it."""
        now = time.perf_counter()
        elapsed, self._since = now - self._since, now
        share = 0.0 if self._doing == "starting" else self._computing / self.devices
        self.spent["computing"] += share * elapsed
        if self._doing is not None:
            self.spent[self._doing] += (1 - share) * elapsed

    def shares(self) -> dict[str, float]:
        """Of a device's time: starting, waiting, computing, writing, 1 together; of a worker's: reading, decoding.

        Both of a worker's are over the same time, so that they say how busy the loader's processes were.
        """
        total = sum(self.spent.values()) or 1.0
        found: dict[str, float] = {kind: seconds / total for kind, seconds in self.spent.items()}
        running = max(total - self.spent["starting"], 1e-9) * self.workers  # while the trunk loads, workers idle
        found["reading"] = min(self.reading / running, 1.0)
        found["decoding"] = min(self.decoding / running, 1.0)
        return found

    def bound_by(self) -> str:
        """read, decode, device or write: what most of the time went to, once it ran."""
        running: tuple[Kind, ...] = ("waiting", "computing", "writing")
        largest = max(running, key=lambda kind: self.spent[kind])
        if largest == "waiting":
            return "read" if self.reading > self.decoding else "decode"
        return {"computing": "device", "writing": "write"}[largest]

    def _faster_decoding(self) -> list[str]:
        found = [f"--workers {self.cores}"] if self.workers < self.cores else []
        if self.videos:
            return found or ["a machine with more cores"]
        if self.decoder == "pillow":
            found.append("--decode fast")
        if self.decoder != "nvjpeg" and "GPU" in self.device:
            found.append("--decode gpu (of JPEG files)")
        return found or ["a machine with more cores"]

    def sentence(self) -> str:
        """What holds the run back, and what to try; shares are of the time after the start."""
        starting = self.shares()["starting"]
        running = replace(self, spent={**self.spent, "starting": 0.0})
        share = {kind: f"{100 * value:.0f} %" for kind, value in running.shares().items()}
        busy = "worker is" if self.workers == 1 else "workers are"
        waits = f"the {self.device} waits {share['waiting']} of the time"
        match self.bound_by():
            case "read":
                more = min(2 * self.workers, self.images, MOST_WORKERS)
                parallel = f", or --workers {more} where the disk serves several at once" if more > self.workers else ""
                said = (
                    f"read-bound: {self.workers} {busy} reading {share['reading']} of the time, {waits}; try a faster "
                    f"disk{parallel}"
                )
            case "decode":
                said = (
                    f"decode-bound: {self.workers} {busy} decoding {share['decoding']} of the time, {waits}; "
                    f"try {' or '.join(self._faster_decoding())}"
                )
            case "write":
                said = (
                    f"write-bound: publishing shards takes {share['writing']} of the time; try --cache on a faster "
                    f"disk, or larger shards (--shard-rows, --shard-seconds)"
                )
            case _:
                bf16 = ", --precision bf16 where it has it," if self.compute == "float32" else ""
                said = (
                    f"device-bound: the {self.device} computes {share['computing']} of the time; try a faster device"
                    f"{bf16} or another --engine"
                )
        start = f" (start-up was {100 * starting:.0f} % of this run; more images hide it)" if starting > 0.5 else ""
        return said + start
