"""A trunk in a process of its own, asked over its standard input, answering on its standard output, a JSON line each.

    < {"made": …, "engine": [name, why], "batch_size": 32}               once the trunk is loaded
    > {"slot": 0, "rows": 32}
    < {"engine": [name, why], "batch_size": 32}                          the embeddings stand in the slot

Before any of its answers it may say {"warning": …}; {"failed": reason} is its last word. It ends when its standard
input does, so that it outlives its parent by nothing, however that died; what it has not said is lost with it.
"""

import io
import json
import mmap
import os
import queue
import sys
import threading
import traceback
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from featcache.errors import FeatcacheError
from featcache.loader.worker import say
from featcache.recipe import TrunkSection
from featcache.store.weights_memo import WeightsMemo
from featcache.trunks.registry import Trunk, TrunkSource, load
from featcache.trunks.spec import TrunkSpec


def main(settings: str, shared: int) -> None:
    """Serve until standard input ends; `shared` is the descriptor of the memory shared with the parent."""
    answer = io.FileIO(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    asked = json.loads(settings)
    requests: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    try:
        if asked["cores"]:
            os.sched_setaffinity(0, asked["cores"])  # before torch counts its threads
        threading.Thread(target=_listen, args=(requests,), daemon=True).start()
        warnings.showwarning = lambda message, *_, **__: say(answer, {"warning": str(message)})
        _serve(asked, shared, requests, answer)
    except FeatcacheError as error:
        say(answer, {"failed": str(error)})
    except Exception as error:
        traceback.print_exc()
        say(answer, {"failed": f"{asked['device']}: {type(error).__name__}: {error}"})
    finally:
        os._exit(0)  # at once: the other thread still listens


class Slots:
    """Batches in shared memory: their pixels, and what became of them."""

    def __init__(self, memory: npt.NDArray[np.uint8], *, slots: int, batch: int, crop: int, dim: int) -> None:
        split = slots * batch * dim * np.dtype(np.float32).itemsize
        self.embeddings = memory[:split].view(np.float32).reshape(slots, batch, dim)
        self.pixels = memory[split:].reshape(slots, batch, 3, crop, crop)

    @staticmethod
    def size(*, slots: int, batch: int, crop: int, dim: int) -> int:
        """Bytes that all of it takes."""
        return slots * batch * (dim * np.dtype(np.float32).itemsize + 3 * crop * crop)


def _listen(requests: "queue.SimpleQueue[dict[str, Any]]") -> None:
    for line in sys.stdin.buffer:
        requests.put(json.loads(line))
    os._exit(0)  # nobody is left to answer


def _serve(
    asked: dict[str, Any], shared: int, requests: "queue.SimpleQueue[dict[str, Any]]", answer: io.FileIO
) -> None:
    source = TrunkSource(TrunkSection(**asked["section"]), WeightsMemo(Path(asked["cache"])))
    spec = TrunkSpec.from_json(asked["spec"])
    trunk = load(
        source, spec, device=asked["device"], batch_size=asked["shape"]["batch"], engine=asked["engine"],
        images=asked["images"],
    )  # fmt: skip
    memory = np.frombuffer(mmap.mmap(shared, 0), dtype=np.uint8)
    trunk.lock_pages(memory)
    slots = Slots(memory, **asked["shape"])
    say(answer, {"made": trunk.made(), **_state(trunk)})
    while True:
        request = requests.get()
        slot, rows = request["slot"], request["rows"]
        slots.embeddings[slot, :rows] = trunk.embed(slots.pixels[slot, :rows])
        say(answer, _state(trunk))


def _state(trunk: Trunk) -> dict[str, Any]:
    return {"engine": [trunk.engine.name, trunk.engine.why], "batch_size": trunk.batch_size}
