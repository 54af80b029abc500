"""Where the time of an extract goes, and the one sentence that says what holds it back.

The main loop does one thing at a time: it waits for an image, waits for a device, or writes; the devices compute
meanwhile. A moment counts as the device's where it computes; where it does not, as what the main loop did, since that
is what the device had to wait for. Of several devices each has its share of the moment. What the loader's processes
do (read, decode) is counted in their own seconds; it matters where the devices wait for them.
"""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

from featcache.media import Decoder
from featcache.text import percent

Activity = Literal["starting", "waiting", "computing", "writing"]
MAX_WORKERS = 1024  # that --workers takes
# What `to_message` tells beside the times.
_CONSTANTS = (
    "workers", "cores", "device", "decoder", "compute", "images", "videos", "elsewhere", "devices", "has_faster_engine",
)  # fmt: skip
MOST = 0.5  # of a run: where starting takes more, a sentence says so
ACTIVITIES: tuple[Activity, ...] = ("starting", "waiting", "computing", "writing")


@dataclass(slots=True)
class TimeBreakdown:
    """Seconds by what they were spent on."""

    workers: int
    cores: int
    device: str = "device"  # as a person calls it
    decoder: Decoder = "pillow"
    compute: str = "float32"
    images: int = 2**62  # that are to be read: no more workers have something to do
    videos: bool = False  # the images are frames of videos, on which --decode has no effect
    elsewhere: bool = False  # the images come from a bucket or from the Hub
    devices: int = 1
    machines: int = 1  # workers of a cluster whose times are together here
    has_faster_engine: bool = True  # whether another engine may be faster for as many images as are to be embedded
    spent: dict[Activity, float] = field(default_factory=lambda: dict.fromkeys(ACTIVITIES, 0.0))  # of a device's time
    reading: float = 0.0  # of the loader's processes, all together
    decoding: float = 0.0
    _activity: Activity | None = field(default=None, init=False)  # of the main loop
    _computing: int = field(default=0, init=False)  # devices that compute now
    _since: float = field(default=0.0, init=False)  # when one of these two changed
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    @contextmanager
    def measure(self, activity: Activity) -> Iterator[None]:
        """Count the time inside as the main loop's, spent on this."""
        with self._lock:
            self._count()
            self._activity = activity
        try:
            yield
        finally:
            with self._lock:
                self._count()
                self._activity = None

    @contextmanager
    def measure_device(self) -> Iterator[None]:
        """Count the time inside as one device's, which computes; called in its thread."""
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
        share = 0.0 if self._activity == "starting" else self._computing / self.devices
        self.spent["computing"] += share * elapsed
        if self._activity is not None:
            self.spent[self._activity] += (1 - share) * elapsed

    def to_message(self) -> dict[str, Any]:
        """Return what `sum_of` takes, as it stands now: what a worker of a cluster says of its part."""
        with self._lock:
            self._count()
            return {name: getattr(self, name) for name in _CONSTANTS} | {
                "spent": dict(self.spent), "reading": self.reading, "decoding": self.decoding,
            }  # fmt: skip

    @classmethod
    def sum_of(cls, parts: Sequence[Mapping[str, Any]], machines: int) -> Self:
        """Return the times of several workers together: shares of them are averages.

        Args:
            parts: What `to_message` returned, at least one.
            machines: How many workers these are of.
        """
        total = cls(**{name: parts[0][name] for name in _CONSTANTS}, machines=machines)
        for part in parts:
            total.reading += part["reading"]
            total.decoding += part["decoding"]
            for activity in ACTIVITIES:
                total.spent[activity] += part["spent"][activity]
        return total

    def shares(self) -> dict[str, float]:
        """Return the shares of a device's time, and of a worker's.

        Returns:
            "starting", "waiting", "computing", "writing": of a device's time, 1 together. "reading", "decoding": of a
            worker's, both over the same time, so that they say how busy the loader's processes were.
        """
        total = sum(self.spent.values()) or 1.0
        shares: dict[str, float] = {activity: seconds / total for activity, seconds in self.spent.items()}
        running = max(total - self.spent["starting"], 1e-9) * self.workers  # while the trunk loads, workers idle
        shares["reading"] = min(self.reading / running, 1.0)
        shares["decoding"] = min(self.decoding / running, 1.0)
        return shares

    def bottleneck(self) -> str:
        """Return "read", "decode", "device" or "write": what most of the time went to, once it ran."""
        running: tuple[Activity, ...] = ("waiting", "computing", "writing")
        largest = max(running, key=lambda activity: self.spent[activity])
        if largest == "waiting":
            return "read" if self.reading > self.decoding else "decode"
        return {"computing": "device", "writing": "write"}[largest]

    def _faster_decoding(self) -> list[str]:
        """Return what to try against slow decoding."""
        advice = [f"--workers {self.cores}"] if self.workers < self.cores else []
        if self.videos:
            return advice or ["a machine with more cores"]
        if self.decoder == "pillow":
            advice.append("--decode fast")
        if self.decoder != "nvjpeg" and "GPU" in self.device:
            advice.append("--decode gpu (of JPEG files)")
        return advice or ["a machine with more cores"]

    def describe(self) -> str:
        """Return what holds the run back and what to try, a sentence; shares are of the time after the start."""
        starting = self.shares()["starting"]
        running = replace(self, spent={**self.spent, "starting": 0.0})
        share = {activity: percent(value, 0) for activity, value in running.shares().items()}
        busy = "worker is" if self.workers == 1 else "workers are"
        of_time = "of the time after start-up" if starting > MOST else "of the time"
        waits = f"the {self.device} waits {share['waiting']} {of_time}"
        match self.bottleneck():
            case "read":
                more = min(2 * self.workers, self.images, MAX_WORKERS)
                parallel = f", or --workers {more} where the disk serves several at once" if more > self.workers else ""
                way_out = f"a faster disk{parallel}"
                if self.elsewhere:
                    way_out = f"{f'--workers {more}, or ' if more > self.workers else ''}a machine nearer to the images"
                sentence = (
                    f"read-bound: {self.workers} {busy} reading {share['reading']} {of_time}, {waits}; try {way_out}"
                )
            case "decode":
                sentence = (
                    f"decode-bound: {self.workers} {busy} decoding {share['decoding']} {of_time}, {waits}; "
                    f"try {' or '.join(self._faster_decoding())}"
                )
            case "write":
                sentence = (
                    f"write-bound: publishing shards takes {share['writing']} {of_time}; try --cache on a faster "
                    f"disk, or larger shards (--shard-rows, --shard-seconds)"
                )
            case _:
                faster = "a machine with a GPU" if self.device == "CPU" else "a faster GPU"
                ways = [faster, *(["--precision bf16 where it has it"] if self.compute == "float32" else [])]
                ways += ["another --engine"] if self.has_faster_engine else []
                computes = f"the {self.device} computes {share['computing']} {of_time}"
                sentence = f"device-bound: {computes}; try {' or '.join(ways)}"
        over = f"; these are averages over {self.machines} workers of the cluster" if self.machines > 1 else ""
        start = f" (start-up was {percent(starting, 0)} of this run; more images hide it)" if starting > MOST else ""
        return sentence + start + over
