"""The main loop of stage one: read what may be missing, have it embedded meanwhile, publish as it comes."""

import contextlib
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Protocol, TypedDict

import numpy as np
import numpy.typing as npt

from featcache.containers import is_elsewhere
from featcache.errors import FeatcacheError
from featcache.extraction.devices import Buffer, DevicePool, EmbeddingBatch, ViewOfImage
from featcache.extraction.drift import has_been_compared
from featcache.extraction.layer import LayerExtraction
from featcache.extraction.rows import FilesOfRows, RowStates, refuse_too_many
from featcache.extraction.summary import Progress, Settings
from featcache.extraction.timing import Activity, TimeBreakdown
from featcache.files import StatLog
from featcache.listing import find_filled, video_and_frame
from featcache.loader import ImageRead, read_frames, read_images
from featcache.machine import cores
from featcache.media import View, copy_image
from featcache.store import DigestSet
from featcache.trunks import TrunkSource

_FLUSH_SECONDS = 5.0  # how much reading a kill may cost where nothing is embedded
_REPORT_SECONDS = 0.1
_BATCHES_AHEAD = 2  # that are read and decoded before the trunk asks for them …
_BATCH = 64  # … of this size, where none was typed: the trunk, which knows better, is not loaded yet


class LoaderOptions(TypedDict):
    """What reading images and reading frames are both asked for."""

    views: Sequence[View | None]
    workers: int
    ahead: int


class ExtractContext(Protocol):
    """What a split's extraction needs of the command that it is a part of."""

    stat_log: StatLog
    settings: Settings

    @property
    def source(self) -> TrunkSource:
        """The trunk that is asked for."""

    @property
    def progress(self) -> Callable[[Progress], None]:
        """Called with where the extract stands."""

    def load_devices(self, layers: Sequence[LayerExtraction]) -> DevicePool:
        """Return the devices, with the trunk on them, once each layer has its columns of what they give."""

    def compare_environment(self, layers: Sequence[LayerExtraction], devices: DevicePool) -> None:
        """Before the first row, hold an environment that is new to a store against its rows, and note it."""


class SplitExtraction:
    """The main loop of one split: read what may be missing, embed what is, publish as it comes."""

    def __init__(self, job: ExtractContext, layers: Sequence[LayerExtraction]) -> None:
        """Prepare to embed.

        Args:
            job: The command that this is a part of.
            layers: Those that are written, each with its store; at least one of them lacks rows.
        """
        self.job, self.layers = job, layers
        self.rows: RowStates = layers[0].rows  # of what concerns files, every layer knows the same
        self.todo: npt.NDArray[np.int64] = np.unique(np.concatenate([layer.todo for layer in layers]))
        self.views = tuple(dict.fromkeys(layer.view for layer in layers))  # that are made of each image
        todo, rows = self.todo, self.rows
        self.claimed = DigestSet()  # decoded in this run: an image that stands in two rows is embedded once
        self.devices: DevicePool | None = None  # until there is an image to embed
        self.buffer: Buffer | None = None  # the batch that is being filled …
        self.images: list[ViewOfImage] = []  # … and what its rows are
        most = max(1, len(todo))  # of workers that have something to do, and so of cores that they could use
        workers = min(job.settings.workers or cores(), most)
        self.timing = TimeBreakdown(
            workers, min(cores(), most), decoder=job.source.transform.decoder, videos=rows.listing.videos,
            compute=layers[0].store.trunk.spec.compute, images=most, elsewhere=is_elsewhere(rows.listing.root),
        )  # fmt: skip
        self.begun = self.reported = self.flushed = time.monotonic()

    @property
    def embedded(self) -> int:
        """How many images and views were embedded and can be stored, for one layer or for several at once."""
        return sum(max(layer.embedded for layer in self.layers if layer.view == view) for view in self.views)

    def embed(self) -> None:
        """Embed the rows that the stores lack."""
        job, listing = self.job, self.rows.listing
        is_settled = np.ones(len(listing), dtype=bool)
        is_settled[self.todo] = False
        bad = int((find_filled(self.rows.reasons()) & is_settled).sum())
        self._report("reading", 0)
        with contextlib.closing(self._read()) as images:
            try:
                for done, image in enumerate(self._timed(images), start=1):
                    self._record(image)
                    bad += bool(image.failed)
                    if bad > job.settings.max_bad * len(listing):
                        read = int(self.rows.known_files.is_known.sum())
                        refuse_too_many(listing, self.rows.reasons(), job.settings.max_bad, read=read)
                    if image.views is not None:
                        self._add(image, image.views)
                    self._report("embedding" if self.claimed else "reading", done)
                self._submit()
                with self.timing.measure("computing"):
                    self._store(self._finished(wait=True))
            except BaseException as stopped:  # Ctrl-C included: what is embedded is published before all else
                self._rescue(stopped)
                raise
            finally:
                job.stat_log.try_flush()

    def _record(self, image: ImageRead) -> None:
        """Note what reading one file gave."""
        row = int(self.todo[image.index])
        self.rows.record_read(row, image, self.job.stat_log)
        for layer in self.layers[1:]:
            layer.rows.note_read(row, image)

    def _timed(self, images: Iterator[ImageRead]) -> Iterator[ImageRead]:
        """Yield the images as they come, and count the time that they were waited for."""
        activity: Activity = "starting"  # the first one waits for the loader's processes to come up
        while True:
            with self.timing.measure(activity):
                image = next(images, None)
            activity = "waiting"
            if image is None:
                return
            self.timing.reading += image.reading
            self.timing.decoding += image.decoding
            yield image

    def _read(self) -> Generator[ImageRead, None, None]:
        job, listing = self.job, self.rows.listing
        ahead = max(1, _BATCHES_AHEAD * (job.settings.batch_size or _BATCH) // len(self.views))
        loading: LoaderOptions = {"views": self.views, "workers": self.timing.workers, "ahead": ahead}
        if not listing.videos:
            return read_images(FilesOfRows(listing, self.todo), job.source.transform, self._claim, **loading)
        frames = [video_and_frame(listing.file(int(row))) for row in self.todo]
        videos = job.stat_log.find_readable(video for video, _ in frames)
        return read_frames(frames, job.source.transform, self._claim, known=videos, **loading)

    def _claim(self, digest: bytes) -> bool:
        """Return whether an image must be decoded; asked once a file, by the loader's threads in turn."""
        if digest in self.claimed or not any(layer.lacks(digest) for layer in self.layers):
            return False
        self.claimed.add(digest)
        return True

    def _add(self, image: ImageRead, views: npt.NDArray[np.uint8]) -> None:
        """Add those views of an image that a store lacks to the batch that is being filled; submit it when it is full.

        Args:
            image: The file.
            views: Its pixels, (views, …).
        """
        devices = self._loaded_devices(image.index)
        for view, pixels in zip(self.views, views, strict=True):
            if not any(layer.view == view and layer.lacks(image.digest) for layer in self.layers):
                continue
            if self.buffer is None:
                with self.timing.measure("computing"):  # it waits only where every device does
                    self.buffer = devices.buffer()
            copy_image(pixels, self.buffer.pixels[len(self.images)])
            self.images.append(ViewOfImage(image.digest, view))
            if len(self.images) == len(self.buffer.pixels):
                self._submit()
        self._store(self._finished())

    def _loaded_devices(self, done: int) -> DevicePool:
        """Return the devices, loaded and compared with what the stores hold where that is not done yet."""
        if self.devices is None:
            self._report("loading the trunk", done, now=True)
            with self.timing.measure("starting"):
                self.devices = self.job.load_devices(self.layers)
                self._check_drift(self.devices, done)
            self.timing.device, self.timing.devices = self.devices.describe_device(), len(self.devices.devices)
            self.timing.has_faster_engine = self.devices.has_faster_engine()
        return self.devices

    def _check_drift(self, devices: DevicePool, done: int) -> None:
        """Before the first row, hold an environment that is new to a store against its rows, and note it.

        Raises:
            CacheError: the same images come out differently here.
        """
        provenance = devices.provenance()
        if not all(has_been_compared(layer.store, provenance) for layer in self.layers):
            self._report("comparing with the embeddings that are there", done, now=True)
        self.job.compare_environment(self.layers, devices)

    def _submit(self) -> None:
        """Let a device embed the batch, which need not be full."""
        if self.devices is not None and self.buffer is not None:
            with self.timing.measure("computing"):  # where the device decodes, this is where it does
                self.devices.submit(self.buffer, self.images, self.timing.measure_device)
            self.buffer, self.images = None, []

    def _finished(self, *, wait: bool = False) -> Iterator[tuple[list[ViewOfImage], EmbeddingBatch]]:
        return self.devices.finished(wait=wait) if self.devices is not None else iter(())

    def _store(self, batches: Iterable[tuple[list[ViewOfImage], EmbeddingBatch]]) -> None:
        """Hand each layer of what is embedded to the store of its view."""
        for images, embeddings in batches:
            with self.timing.measure("writing"):
                for layer in self.layers:
                    rows = [row for row, image in enumerate(images) if image.view == layer.view]
                    part = embeddings if len(rows) == len(images) else embeddings[rows]
                    if rows:
                        layer.append([images[row].digest for row in rows], part)

    def _rescue(self, stopped: BaseException) -> None:
        """Publish what is embedded. An error waits for what was submitted; Ctrl-C only for what is begun."""
        with contextlib.suppress(FeatcacheError):
            try:
                if self.devices is not None:
                    self._store(self.devices.rescue(wait=isinstance(stopped, Exception)))
            finally:  # a second Ctrl-C included
                with contextlib.ExitStack() as flushing:  # each is flushed, whatever becomes of the others
                    for layer in reversed(self.layers):
                        flushing.callback(layer.writer.flush)

    def _bound(self) -> str:
        return f"{self.timing.bottleneck()}-bound" if self.embedded else ""

    def _report(self, stage: str, done: int, *, now: bool = False) -> None:
        """Report, ten times a second at the most; and let the memory of what was read reach the disk."""
        moment = time.monotonic()
        if now or moment - self.reported > _REPORT_SECONDS or done in (0, len(self.todo)):
            self.reported = moment
            split, views = self.rows.listing.split, len(self.views)
            self.job.progress(
                Progress(
                    split, stage, done * views, len(self.todo) * views, self.embedded, moment - self.begun,
                    self._bound(),
                )
            )  # fmt: skip
        if moment - self.flushed > _FLUSH_SECONDS:
            self.flushed = moment
            self.job.stat_log.flush()
