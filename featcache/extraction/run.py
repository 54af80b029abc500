"""The main loop of stage one: read what may be missing, have it embedded meanwhile, publish as it comes."""

import contextlib
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt

from featcache.errors import FeatcacheError
from featcache.extraction import drift
from featcache.extraction.devices import Buffer, Devices, Embeddings
from featcache.extraction.drift import Drift
from featcache.extraction.rows import Rows, refuse_too_many
from featcache.extraction.summary import Progress, Settings
from featcache.extraction.timing import Account, Kind
from featcache.files import StatLog
from featcache.listing import video_and_frame
from featcache.loader import ImageRead, read_frames, read_images
from featcache.machine import cores
from featcache.media import put
from featcache.store import StoreWriter, check_finite, digests_of
from featcache.trunks import TrunkSource

_FLUSH_SECONDS = 5.0  # how much reading a kill may cost where nothing is embedded
_SAY_SECONDS = 0.1
_AHEAD = 2  # batches that are read and decoded before the trunk asks for them
_BATCH = 64  # … of this size, where none was typed: the trunk, which knows better, is not loaded yet


class Job(Protocol):
    """What a run needs of the command that it is a part of."""

    known: StatLog
    source: TrunkSource
    settings: Settings
    progress: Callable[[Progress], None]
    drift: dict[str, Drift]  # by split, what a comparison with the store's old rows gave

    @property
    def devices(self) -> Devices:
        """The devices, with the trunk on them, loaded when they are first asked for."""


class Run:
    """The main loop of one split: read what may be missing, embed what is, publish as it comes."""

    def __init__(self, job: Job, rows: Rows, todo: npt.NDArray[np.int64], writer: StoreWriter) -> None:
        self.job, self.rows, self.todo, self.writer = job, rows, todo, writer
        self.claimed: set[bytes] = set()  # decoded in this run: an image that stands in two rows is embedded once
        self.embedded = 0
        self.devices: Devices | None = None  # until there is an image to embed
        self.buffer: Buffer | None = None  # the batch that is being filled …
        self.waiting: list[bytes] = []  # … and its digests
        most = max(1, len(todo))  # of workers that have something to do, and so of cores that they could use
        workers = min(job.settings.workers or cores(), most)
        self.account = Account(
            workers, min(cores(), most), decoder=job.source.transform.decoder, videos=rows.listing.videos,
            compute=writer.store.trunk.spec.compute, images=most,
        )  # fmt: skip
        self.begun = self.said = self.flushed = time.monotonic()

    def embed(self) -> int:
        """Embed the rows that the store lacks; how many images that were."""
        job, listing = self.job, self.rows.listing
        settled = np.ones(len(listing), dtype=bool)
        settled[self.todo] = False
        bad = sum(bool(reason) for reason, known in zip(self.rows.reasons(), settled, strict=True) if known)
        self._say("reading", 0)
        with contextlib.closing(self._read()) as images:
            try:
                for done, image in enumerate(self._timed(images), start=1):
                    self.rows.take(int(self.todo[image.index]), image, job.known)
                    bad += bool(image.failed)
                    if bad > job.settings.max_bad * len(listing):
                        read = sum(found is not None for found in self.rows.known)
                        refuse_too_many(listing, self.rows.reasons(), job.settings.max_bad, read)
                    if image.pixels is not None:
                        self._add(image, image.pixels)
                    self._say("embedding" if self.claimed else "reading", done)
                self._submit()
                with self.account.time("computing"):
                    self._keep(self._finished(wait=True))
            except BaseException as stopped:  # Ctrl-C included: what is embedded is published before all else
                self._rescue(stopped)
                raise
            finally:
                job.known.try_flush()
        return self.embedded

    def _timed(self, images: Iterator[ImageRead]) -> Iterator[ImageRead]:
        """The images as they come, with the time that they were waited for."""
        kind: Kind = "starting"  # the first one waits for the loader's processes to come up
        while True:
            with self.account.time(kind):
                image = next(images, None)
            kind = "waiting"
            if image is None:
                return
            self.account.reading += image.reading
            self.account.decoding += image.decoding
            yield image

    def _read(self) -> Generator[ImageRead, None, None]:
        job, listing = self.job, self.rows.listing
        workers, ahead = self.account.workers, _AHEAD * (job.settings.batch_size or _BATCH)
        files = [listing.file(int(row)) for row in self.todo]
        if not listing.videos:
            return read_images(files, job.source.transform, self._wanted, workers=workers, ahead=ahead)
        places = [video_and_frame(file) for file in files]
        known = job.known.sound(video for video, _ in places)
        return read_frames(places, job.source.transform, self._wanted, known=known, workers=workers, ahead=ahead)

    def _wanted(self, digest: bytes) -> bool:
        """Whether an image must be decoded; asked once per file, by the loader's threads in turn."""
        if digest in self.claimed or self.writer.store.holds(digests_of([digest]))[0]:
            return False
        self.claimed.add(digest)
        return True

    def _add(self, image: ImageRead, pixels: npt.NDArray[np.uint8]) -> None:
        if self.devices is None:
            self._say("loading the trunk", image.index, now=True)
            with self.account.time("starting"):
                self.devices = self.job.devices
                self._prove(self.devices, image.index)
            self.account.device, self.account.devices = self.devices.name(), len(self.devices.all)
        if self.buffer is None:
            with self.account.time("computing"):  # it waits only where every device does
                self.buffer = self.devices.buffer()
        put(pixels, self.buffer.pixels[len(self.waiting)])
        self.waiting.append(image.digest)
        if len(self.waiting) == len(self.buffer.pixels):
            self._submit()
        self._keep(self._finished())

    def _prove(self, devices: Devices, done: int) -> None:
        """Before the first row: hold a making that this store has not seen against what it holds, and note it.

        Raises:
            CacheError: the same images come out otherwise here.
        """
        job, made = self.job, devices.made()
        if drift.is_proven(self.writer.store, made):
            self.writer.record(made)
            return
        self._say("comparing with the embeddings that are there", done, now=True)
        workers = job.settings.workers or cores()
        found = [
            drift.prove(self.writer.store, self.rows.extracted(), device, workers=workers)
            for device in devices.different()
        ]
        worst = max(found, key=lambda one: (one.cosine, one.norm))
        job.drift[self.rows.listing.split] = worst
        self.writer.record(made, worst.to_json())

    def _submit(self) -> None:
        """Let a device embed the batch, which need not be full."""
        if self.devices is not None and self.buffer is not None:
            with self.account.time("computing"):  # where the device decodes, this is where it does
                self.devices.submit(self.buffer, self.waiting, self.account.computing)
            self.buffer, self.waiting = None, []

    def _finished(self, *, wait: bool = False) -> Iterator[tuple[list[bytes], Embeddings]]:
        return self.devices.finished(wait=wait) if self.devices is not None else iter(())

    def _keep(self, batches: Iterable[tuple[list[bytes], Embeddings]]) -> None:
        """Hand what can be stored to the writer, and name what cannot."""
        for digests, found in batches:
            fine = check_finite(found, self.writer.store.trunk.spec.stored)
            kept = [digest for digest, good in zip(digests, fine, strict=True) if good]
            reason = self.writer.store.trunk.spec.refusal
            self.rows.refused |= {digest: reason for digest, good in zip(digests, fine, strict=True) if not good}
            self.embedded += len(kept)
            if kept:
                with self.account.time("writing"):
                    self.writer.append(digests_of(kept), found[fine])

    def _rescue(self, stopped: BaseException) -> None:
        """Publish what is embedded. An error waits for what was submitted; Ctrl-C only for what is begun."""
        with contextlib.suppress(FeatcacheError):
            try:
                if self.devices is not None:
                    self._keep(self.devices.rescue(wait=isinstance(stopped, Exception)))
            finally:  # a second Ctrl-C included
                self.writer.flush()

    def _bound(self) -> str:
        return f"{self.account.bound_by()}-bound" if self.embedded else ""

    def _say(self, stage: str, done: int, *, now: bool = False) -> None:
        """Report, ten times a second at the most; and let the memory of what was read reach the disk."""
        moment = time.monotonic()
        if now or moment - self.said > _SAY_SECONDS or done in (0, len(self.todo)):
            self.said = moment
            split, total = self.rows.listing.split, len(self.todo)
            self.job.progress(Progress(split, stage, done, total, self.embedded, moment - self.begun, self._bound()))
        if moment - self.flushed > _FLUSH_SECONDS:
            self.flushed = moment
            self.job.known.flush()
