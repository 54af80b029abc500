"""A trunk in a process of its own, which gets requests on its standard input and replies on its standard output.

A line of JSON each:

    < {"provenance": …, "engine": [name, why], "batch_size": 32}         once the trunk is loaded
    > {"slot": 0, "rows": 32}
    < {"engine": [name, why], "batch_size": 32}                          the embeddings stand in the slot

A second batch may be asked for while the first is embedded: its copy to the device runs beside. Before any reply it
may say {"warning": …}; {"failed": reason} is its last word. It ends when its standard input does, so that it outlives
its parent by nothing, however that died; what it has not said is lost with it.
"""

import io
import json
import math
import mmap
import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from featcache.errors import FeatcacheError
from featcache.files.objects import parse_path
from featcache.loader import reply
from featcache.recipe import TrunkSection, is_import_path
from featcache.trunks import Trunk, TrunkSpec, UploadedBatch, WeightsMemo, load_trunk, name_trunk


def main(arguments: str, shared: int) -> None:
    """Serve until standard input ends; `shared` is the descriptor of the memory shared with the parent."""
    replies = io.FileIO(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no reply
    settings = json.loads(arguments)
    device = settings["device"]
    if settings["cores"]:
        os.sched_setaffinity(0, settings["cores"])  # before there are threads, and before torch counts its own
    warnings.showwarning = lambda message, *_, **__: reply(replies, {"warning": str(message)})
    memory = np.frombuffer(mmap.mmap(shared, 0), dtype=np.uint8)
    slots = BatchSlots(memory, settings["layout"])

    def start() -> Trunk:
        with _report_failure(device, replies):
            trunk = _load(settings)
            trunk.lock_pages(memory)
            reply(replies, {"provenance": trunk.provenance(), **_state(trunk)})
        return trunk

    def embed(trunk: Trunk, slot: int, rows: int, batch: UploadedBatch) -> None:
        with _report_failure(device, replies):
            slots.embeddings[slot, :rows] = trunk.embed(batch)
            reply(replies, _state(trunk))

    thread = ThreadPoolExecutor(1)  # the only one that computes; this one listens, and copies meanwhile
    loading = thread.submit(start)
    for line in sys.stdin.buffer:
        request = json.loads(line)
        slot, rows = request["slot"], request["rows"]
        with _report_failure(device, replies):
            trunk = loading.result()
            thread.submit(embed, trunk, slot, rows, trunk.upload(slots.pixels[slot, :rows]))
    os._exit(0)  # nobody is left to reply to


class SlotLayout(TypedDict):
    """The layout of the memory that is shared with the parent."""

    slots: int
    batch: int  # images in a slot
    image: Sequence[int]  # ImageTransform.shape
    dim: int


class BatchSlots:
    """Batches in shared memory: their pixels, and what became of them."""

    def __init__(self, memory: npt.NDArray[np.uint8], layout: SlotLayout) -> None:
        slots, batch, dim = layout["slots"], layout["batch"], layout["dim"]
        split = slots * batch * dim * np.dtype(np.float32).itemsize
        self.embeddings = memory[:split].view(np.float32).reshape(slots, batch, dim)
        self.pixels = memory[split:].reshape(slots, batch, *layout["image"])

    @staticmethod
    def size(layout: SlotLayout) -> int:
        """Return how much memory it takes, bytes."""
        bytes_an_image = layout["dim"] * np.dtype(np.float32).itemsize + math.prod(layout["image"])
        return layout["slots"] * layout["batch"] * bytes_an_image


@contextmanager
def _report_failure(device: str, replies: io.FileIO) -> Iterator[None]:
    """Tell the parent what fails inside, and end the process then."""
    try:
        yield
    except FeatcacheError as error:
        failed = str(error)
    except Exception as error:
        traceback.print_exc()
        failed = f"{device}: {type(error).__name__}: {error}"
    else:
        return
    with suppress(OSError):
        reply(replies, {"failed": failed})
    os._exit(1)


def _load(settings: dict[str, Any]) -> Trunk:
    if is_import_path(settings["section"]["arch"]):  # a module of one's own is imported as the parent imported it
        os.chdir(settings["folder"])
        sys.path += [folder for folder in settings["path"] if folder not in sys.path]
    source = name_trunk(TrunkSection(**settings["section"]), WeightsMemo(parse_path(settings["cache"])))
    return load_trunk(
        source, TrunkSpec.from_json(settings["spec"]), device=settings["device"], layers=tuple(settings["layers"]),
        batch_size=settings["layout"]["batch"], engine=settings["engine"], images=settings["images"],
    )  # fmt: skip


def _state(trunk: Trunk) -> dict[str, Any]:
    return {"engine": [trunk.engine.name, trunk.engine.why], "batch_size": trunk.batch_size}
