"""A trunk in a process of its own, asked over its standard input, answering on its standard output, a JSON line each.

    < {"made": …, "engine": [name, why], "batch_size": 32}               once the trunk is loaded
    > {"slot": 0, "rows": 32}
    < {"engine": [name, why], "batch_size": 32}                          the embeddings stand in the slot

A second batch may be asked for while the first is embedded: its copy to the device runs beside. Before any answer it
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
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from featcache.errors import FeatcacheError
from featcache.loader import say
from featcache.recipe import TrunkSection
from featcache.trunks import Trunk, TrunkSource, TrunkSpec, Uploaded, WeightsMemo, load_trunk


def main(settings: str, shared: int) -> None:
    """Serve until standard input ends; `shared` is the descriptor of the memory shared with the parent."""
    answer = io.FileIO(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    asked = json.loads(settings)
    if asked["cores"]:
        os.sched_setaffinity(0, asked["cores"])  # before there are threads, and before torch counts its own
    warnings.showwarning = lambda message, *_, **__: say(answer, {"warning": str(message)})
    memory = np.frombuffer(mmap.mmap(shared, 0), dtype=np.uint8)
    slots = Slots(memory, asked["shape"])

    def start() -> Trunk:
        with _last_word(asked["device"], answer):
            trunk = _load(asked)
            trunk.lock_pages(memory)
            say(answer, {"made": trunk.made(), **_state(trunk)})
        return trunk

    def embed(trunk: Trunk, slot: int, rows: int, batch: Uploaded) -> None:
        with _last_word(asked["device"], answer):
            slots.embeddings[slot, :rows] = trunk.embed(batch)
            say(answer, _state(trunk))

    thread = ThreadPoolExecutor(1)  # the only one that computes; this one listens, and copies meanwhile
    loading = thread.submit(start)
    for line in sys.stdin.buffer:
        request = json.loads(line)
        slot, rows = request["slot"], request["rows"]
        with _last_word(asked["device"], answer):
            trunk = loading.result()
            thread.submit(embed, trunk, slot, rows, trunk.upload(slots.pixels[slot, :rows]))
    os._exit(0)  # nobody is left to answer


class Shape(TypedDict):
    """Of the memory that is shared with the parent."""

    slots: int
    batch: int  # images in a slot
    image: Sequence[int]  # ImageTransform.shape
    dim: int


class Slots:
    """Batches in shared memory: their pixels, and what became of them."""

    def __init__(self, memory: npt.NDArray[np.uint8], shape: Shape) -> None:
        slots, batch, dim = shape["slots"], shape["batch"], shape["dim"]
        split = slots * batch * dim * np.dtype(np.float32).itemsize
        self.embeddings = memory[:split].view(np.float32).reshape(slots, batch, dim)
        self.pixels = memory[split:].reshape(slots, batch, *shape["image"])

    @staticmethod
    def size(shape: Shape) -> int:
        """Bytes that all of it takes."""
        bytes_of_one = shape["dim"] * np.dtype(np.float32).itemsize + math.prod(shape["image"])
        return shape["slots"] * shape["batch"] * bytes_of_one


@contextmanager
def _last_word(device: str, answer: io.FileIO) -> Iterator[None]:
    """What fails inside is said to the parent, and ends the process."""
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
        say(answer, {"failed": failed})
    os._exit(1)


def _load(asked: dict[str, Any]) -> Trunk:
    source = TrunkSource(TrunkSection(**asked["section"]), WeightsMemo(Path(asked["cache"])))
    return load_trunk(
        source, TrunkSpec.from_json(asked["spec"]), device=asked["device"], batch_size=asked["shape"]["batch"],
        engine=asked["engine"], images=asked["images"],
    )  # fmt: skip


def _state(trunk: Trunk) -> dict[str, Any]:
    return {"engine": [trunk.engine.name, trunk.engine.why], "batch_size": trunk.batch_size}
