"""Where the time of an extract goes, and the one sentence that says what holds it back.

The main loop does one thing at a time: it waits for an image, computes, or writes. What the loader's processes do
meanwhile (read, decode) is counted in their own seconds; it matters where the main loop waits for them.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["starting", "waiting", "computing", "writing"]
KINDS: tuple[Kind, ...] = ("starting", "waiting", "computing", "writing")
_ENOUGH = 0.5  # a share of the main loop's time from which on one thing is said to hold it back


@dataclass(slots=True)
class Account:
    """Seconds by what they were spent on."""

    workers: int
    cores: int
    device: str = "device"  # as a person calls it
    gpu_decode: bool = False  # whether decoding on the device is to be had
    spent: dict[Kind, float] = field(default_factory=lambda: dict.fromkeys(KINDS, 0.0))  # of the main loop
    reading: float = 0.0  # of the loader's processes, all together
    decoding: float = 0.0

    @contextmanager
    def time(self, kind: Kind) -> Iterator[None]:
        """Count what happens inside."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.spent[kind] += time.perf_counter() - begun

    def shares(self) -> dict[str, float]:
        """Of the main loop's time: starting, waiting, computing, writing, 1 together; of a worker's: reading, decoding.

        Both of a worker's are over the same time, so that they say how busy the loader's processes were.
        """
        total = sum(self.spent.values()) or 1.0
        found: dict[str, float] = {kind: seconds / total for kind, seconds in self.spent.items()}
        running = max(total - self.spent["starting"], 1e-9) * self.workers  # while the trunk loads, workers idle
        found["reading"] = min(self.reading / running, 1.0)
        found["decoding"] = min(self.decoding / running, 1.0)
        return found

    def bound_by(self) -> str:
        """start, read, decode, device or write: what most of the time went to."""
        largest = max(self.spent, key=lambda kind: self.spent[kind])
        if largest == "waiting":
            return "read" if self.reading > self.decoding else "decode"
        return {"starting": "start", "computing": "device", "writing": "write"}[largest]

    def sentence(self) -> str:
        """What holds the run back, and what to try."""
        share = {kind: f"{100 * value:.0f} %" for kind, value in self.shares().items()}
        busy = "worker is" if self.workers == 1 else "workers are"
        match self.bound_by():
            case "start":
                return f"start-bound: loading the trunk took {share['starting']} of the time; more images hide it"
            case "read":
                return (
                    f"read-bound: {self.workers} {busy} reading {share['reading']} of their time, the {self.device} "
                    f"waits {share['waiting']} of it; try a faster disk, or --workers {2 * self.workers} where the "
                    f"disk serves several at once"
                )
            case "decode":
                more = f"--workers {self.cores} or " if self.workers < self.cores else ""
                return (
                    f"decode-bound: {self.workers} {busy} decoding {share['decoding']} of their time, the "
                    f"{self.device} waits {share['waiting']} of it; try {more}--decode fast"
                )
            case "write":
                return (
                    f"write-bound: publishing shards takes {share['writing']} of the time; try --cache on a faster "
                    f"disk, or larger shards (--shard-rows, --shard-seconds)"
                )
        return (
            f"device-bound: the {self.device} computes {share['computing']} of the time and waits for images "
            f"{share['waiting']}; try a faster device, --precision bf16 where it has it, or another --engine"
        )
