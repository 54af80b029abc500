"""embed: images of a program's own -> the rows that `featcache extract` would write for them."""

import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from featcache.arguments import ArgumentError, checked
from featcache.containers import image_place
from featcache.dataset import DatasetRequest
from featcache.errors import DataError, UsageError
from featcache.extraction import ExtractOptions, Settings
from featcache.files import expand_home
from featcache.listing import readable
from featcache.loader import read_images
from featcache.machine import cores
from featcache.media import BadImageError, copy_image, is_pillow_image, prepare_pixels
from featcache.recipe import DataOptions, TrunkKeywords, pick_options
from featcache.store import FeatureStore, digest_column, find_storable, find_stores
from featcache.trunks import Trunk, TrunkSource, TrunkSpec, WeightsMemo, choose_device, load_trunk, name_trunk

Rows = npt.NDArray[np.float32]
_AHEAD = 64  # images that are read before the trunk asks for them
_EXPECTED = "a path, a PIL image, or an array of pixels: (height, width, 3), RGB, or (height, width), grey, uint8"


@checked
def embed(
    images: Any,
    *,
    device: str = "auto",
    batch_size: int | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
    **options: Unpack[ExtractOptions],
) -> npt.NDArray[np.float32]:
    """Return the embeddings of images: row i is what `featcache extract` writes for image i, bit for bit.

    The trunk is that of the recipe and of the options, as for `extract`, and so are resizing, cropping, precision and
    the type on disk; nothing is normalised. Nothing is written, and the cache may be missing; what its store of this
    trunk holds already is not computed again. The trunk is loaded anew by every call: pass many images at once.

    Equality is that of one machine, with the batch size of `extract`. Two exceptions: with `decode` "fast" or "gpu" a
    PIL image or an array is resized from all of its pixels, where a JPEG file is shrunk while it is decoded; and
    `extract` may take a faster `--engine` for thousands of images, whose rows differ in the last bits.

    Args:
        images: one image or several. An image is

            - a path, `str` or `os.PathLike`, of an image file, or of one in a container, `photos.tar#ants/1.jpg`;
              not of a folder;
            - a `PIL.Image.Image` of any mode that has 8 or 16 bits a channel, its orientation tag as `exif` has it;
            - an array of pixels, uint8: (height, width, 3) with the channels in the order red, green, blue, or
              (height, width) of grey. Of OpenCV's blue, green, red, pass `pixels[..., ::-1]`.

            Several are any iterable of these, mixed as you like, or one array (n, height, width, 3).
        device: where the trunk runs: "auto", "cpu", "cuda", …
        batch_size: images in one forward; None leaves it to the device, as `extract` does.
        workers: processes that read and decode files; None is one for each core.
        progress: gets how many images are ready for the trunk, and of how many.
        **options: those of `extract`: `pipeline`, `data`, `cache`, `name`, and `arch`, `weights`, `precision`, …

    Returns:
        (n, dim) float32, in the order of the images; (0, dim) of none.

    Raises:
        UsageError: an element of another type, dtype or shape; the recipe, or the device; or several layers.
        DataError: an image that cannot be read, decoded or embedded; the message names the first one, and nothing is
            returned.
        MachineError: weights out of reach, no such device, out of memory.
    """
    rows = _embed_layers(images, device, batch_size, workers, progress, options)
    if len(rows) > 1:
        raise UsageError(f"embed(): layer is {', '.join(rows)}, expected one; embed_layers() returns each of several")
    return next(iter(rows.values()))


@checked
def embed_layers(
    images: Any,
    *,
    device: str = "auto",
    batch_size: int | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
    **options: Unpack[ExtractOptions],
) -> dict[str, npt.NDArray[np.float32]]:
    """Return the embeddings of images at several layers, of one forward; each is what `embed` returns of that layer.

    Args:
        images: one image or several, as for `embed`.
        device: where the trunk runs: "auto", "cpu", "cuda", …
        batch_size: images in one forward; None leaves it to the device.
        workers: processes that read and decode files; None is one for each core.
        progress: gets how many images are ready for the trunk, and of how many.
        **options: those of `extract`; `layer=["cls", "mean"]` names the layers.

    Returns:
        By the layer's name, in the order of the layers: (n, dim) float32, in the order of the images.

    Raises:
        UsageError: as for `embed`; or the network has no such layer.
        DataError: as for `embed`.
        MachineError: as for `embed`.
    """
    return _embed_layers(images, device, batch_size, workers, progress, options)


def _embed_layers(
    images: Any, device: str, batch_size: int | None, workers: int | None, progress: Callable[[int, int], None],
    options: ExtractOptions,
) -> dict[str, Rows]:  # fmt: skip
    """Return what `embed_layers` does."""
    Settings(device=device, batch_size=batch_size, workers=workers)  # refuses what cannot be
    several = _list_images(images)
    request = DatasetRequest(**pick_options(options, DataOptions))
    if options.get("views") or options.get("augment") is not None:
        raise UsageError("embed(): views and augment were given, and it embeds plain images; leave them out")
    settings = {**pick_options(options, TrunkKeywords), "views": 0}
    section = request.recipe_of_trunk.override("trunk", **settings).trunk
    source = name_trunk(section, WeightsMemo(request.folder, is_read_only=True))
    widths = {layer: source.layer_width(layer) for layer in source.layers}
    if not several:
        return {layer: np.empty((0, width), dtype=np.float32) for layer, width in widths.items()}
    stores = find_stores(request.folder, request.stat_log)
    chosen_device = choose_device(device)
    specs = source.choose([store.trunk.spec for store in stores], lambda: chosen_device)
    edges = np.cumsum([0, *widths.values()])
    layers = [
        _Layer(spec, slice(start, stop), next((store for store in stores if store.trunk.spec == spec), None))
        for spec, (start, stop) in zip(specs, pairwise(edges), strict=True)
    ]
    embedder = _Embedder(source, layers, chosen_device, batch_size)
    return dict(zip(widths, embedder.embed(several, workers or cores(), progress), strict=True))


def _list_images(images: Any) -> list[Any]:
    """Return one image or several as a list of paths, Pillow's images, and arrays.

    Raises:
        ArgumentError: something that is none of these.
    """
    if _is_path(images):
        return [_check_image(images, "images")]
    if is_pillow_image(images) or (isinstance(images, np.ndarray) and images.ndim < 4):
        return [_check_image(images, "images")]
    if isinstance(images, bytes | bytearray | dict | set) or not isinstance(images, Iterable):
        raise ArgumentError(f"embed(): images is {_describe(images)}, expected {_EXPECTED}; or several of them")
    return [_check_image(image, f"images[{number}]") for number, image in enumerate(images)]


def _check_image(image: Any, name: str) -> Any:
    if _is_path(image):
        return expand_home(image)
    is_pixels = isinstance(image, np.ndarray) and image.dtype == np.uint8 and 0 not in image.shape
    if is_pillow_image(image) or (is_pixels and (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3))):
        return image
    raise ArgumentError(f"embed(): {name} is {_describe(image)}, expected {_EXPECTED}")


def _is_path(image: Any) -> bool:
    return isinstance(image, str | os.PathLike) and isinstance(os.fspath(image), str) and os.fspath(image) != ""


def _describe(image: Any) -> str:
    """Return what something is, for a message: its type, and of an array its dtype and shape."""
    shape, dtype = getattr(image, "shape", None), getattr(image, "dtype", None)
    if shape is not None and dtype is not None:
        return f"{type(image).__name__} of {dtype} {tuple(shape)}"
    return "an empty string" if image == "" else f"of type {type(image).__name__}"


@dataclass(eq=False)
class _Layer:
    """One layer of what is embedded: the rows that are computed, each under its image's key."""

    spec: TrunkSpec
    columns: slice  # of what the trunk returns
    store: FeatureStore | None  # of this layer, where the cache has one
    rows: dict[bytes | int, Rows] = field(default_factory=dict)

    def lacks(self, digest: bytes) -> bool:
        """Return whether the image of a digest is not in the store."""
        return self.store is None or not self.store.holds(digest_column([digest]))[0]

    def keep(self, names: dict[bytes | int, str], rows: Rows) -> None:
        """Keep the rows of images as they would be stored.

        Raises:
            DataError: one cannot be stored.
        """
        rows = rows[:, self.columns]
        for name, is_storable in zip(names.values(), find_storable(rows, self.spec.stored), strict=True):
            if not is_storable:
                raise _refusal(name, self.spec.refusal)
        self.rows.update(zip(names, rows.astype(self.spec.stored).astype(np.float32), strict=True))

    def stack(self, keys: Sequence[bytes | int]) -> Rows:
        """Return the rows of images, (n, dim): those that were computed, and the others from the store."""
        if self.store is not None:
            held = sorted({key for key in keys if isinstance(key, bytes) and key not in self.rows})
            self.rows.update(zip(held, self.store.load(digest_column(held)), strict=True))
        return np.stack([self.rows[key] for key in keys])


@dataclass(eq=False)
class _Embedder:
    """The trunk, loaded when an image must be embedded, and the images that wait for it."""

    source: TrunkSource
    layers: Sequence[_Layer]
    device: str
    batch_size: int | None
    trunk: Trunk | None = None
    pixels: npt.NDArray[np.uint8] | None = None  # the batch that is being filled …
    waiting: dict[bytes | int, str] = field(default_factory=dict)  # … and what its images are called, by their keys

    def embed(self, images: Sequence[Any], workers: int, progress: Callable[[int, int], None]) -> list[Rows]:
        """Return each layer's rows, (n, dim): of files by their digest, of all other images by their number."""
        keys: list[bytes | int] = list(range(len(images)))
        places = [place for place, image in enumerate(images) if isinstance(image, str)]
        done = 0
        for place, digest in zip(places, self._embed_files([images[place] for place in places], workers), strict=True):
            keys[place], done = digest, done + 1
            progress(done, len(images))
        for place, image in enumerate(images):
            if isinstance(image, str):
                continue
            try:
                self._add(place, f"images[{place}]", prepare_pixels(image, self.layers[0].spec.transform))
            except BadImageError as error:
                raise _refusal(f"images[{place}]", str(error)) from None
            done += 1
            progress(done, len(images))
        self._flush()
        return [layer.stack(keys) for layer in self.layers]

    def _embed_files(self, paths: Sequence[str], workers: int) -> Iterable[bytes]:
        """Yield the digest of each file, once its image is on its way through the trunk, or known to be stored."""
        claimed: set[bytes] = set()

        def wants(digest: bytes) -> bool:
            if digest in claimed or not any(layer.lacks(digest) for layer in self.layers):
                return False
            claimed.add(digest)
            return True

        if not paths:
            return
        files = list(map(image_place, paths))
        reading = read_images(files, self.layers[0].spec.transform, wants, workers=workers, ahead=_AHEAD)
        with contextlib.closing(reading) as read:
            for image in read:
                if image.failed:
                    raise _refusal(readable(paths[image.index]), image.failed)
                if image.pixels is not None:
                    self._add(image.digest, readable(paths[image.index]), image.pixels)
                yield image.digest

    def _add(self, key: bytes | int, name: str, pixels: npt.NDArray[np.uint8]) -> None:
        """Take the pixels of one image, and embed all that wait where they fill a batch."""
        if self.trunk is None:
            self.trunk = load_trunk(
                self.source, self.layers[0].spec, device=self.device, batch_size=self.batch_size,
                layers=tuple(layer.spec.layer for layer in self.layers),
            )  # fmt: skip
        if self.pixels is None:
            self.pixels = self.trunk.buffer()
        copy_image(pixels, self.pixels[len(self.waiting)])
        self.waiting[key] = name
        if len(self.waiting) == len(self.pixels):
            self._flush()

    def _flush(self) -> None:
        """Embed the images that wait."""
        if not self.waiting or self.trunk is None or self.pixels is None:
            return
        rows = self.trunk.embed(self.pixels[: len(self.waiting)])
        for layer in self.layers:
            layer.keep(self.waiting, rows)
        self.waiting = {}


def _refusal(name: str, reason: str) -> DataError:
    return DataError(f"{name}: {reason}. No embeddings are returned; leave this image out, or repair it.")
