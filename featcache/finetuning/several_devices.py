"""A training on several devices: a process for each, which begins and ends at the checkpoint of the training."""

import contextlib
import dataclasses
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featcache.errors import CacheError, DataError, FeatcacheError, MachineError, UsageError
from featcache.extraction import Placement, choose_placements
from featcache.files.objects import ObjectPath, copies_folder
from featcache.finetuning.interruption import Interruption
from featcache.finetuning.loggers import LoggerChoice
from featcache.finetuning.shared_images import share_images
from featcache.loader import reap, recv, send, start_process
from featcache.machine import cores

if TYPE_CHECKING:
    from featcache.finetuning.prepared import PreparedTraining

_SECONDS = 0.1  # between two looks at whether an end was asked for
_OTHERS_SECONDS = 2.0  # in which the process that failed first says so, after another has noticed
_ERRORS = {kind.exit_code: kind for kind in (FeatcacheError, UsageError, CacheError, DataError, MachineError)}


def choose_training_devices(device: str) -> list[Placement]:
    """Return the devices that `--device` means; several train together.

    Args:
        device: As for extract; "cpu,cpu" is two processes on the CPU.

    Raises:
        UsageError: no device, one twice, or devices of several kinds.
        MachineError: this machine has no such device.
    """
    names = device.split(",")
    if len(names) > 1 and set(names) == {"cpu"}:
        return [Placement("cpu")] * len(names)
    placements = choose_placements(device)
    kinds = sorted({placement.device.partition(":")[0] for placement in placements})
    if len(kinds) > 1:
        raise UsageError(
            f"--device {device}: found {' and '.join(kinds)}, expected devices of one kind, which train together"
        ).correct("--device", "all")
    return placements


class DeviceProcesses:
    """The processes of one training, as their parent speaks to them."""

    def __init__(self, prepared: "PreparedTraining", placements: Sequence[Placement], **settings: Any) -> None:
        """Start them; each loads the network, and goes on from the checkpoint.

        Args:
            prepared: The training, whose checkpoint is there.
            placements: Where it runs.
            **settings: What else a process is told.

        Raises:
            MachineError: the images do not fit into memory, or a process cannot be started.
        """
        plan = prepared.training.plan
        self._messages: queue.Queue[tuple[int, dict[str, Any]]] = queue.Queue()
        self.processes: list[subprocess.Popen[bytes]] = []
        self._file, layout = share_images([plan.train] if plan.val is None else [plan.train, plan.val])
        self._folder = tempfile.mkdtemp(prefix="featcache-ranks-")
        shared = {**_settings_of(prepared), **settings, "layout": layout, "meeting": f"{self._folder}/meeting"}
        devices, size = [placement.device for placement in placements], len(placements)
        of_cores = 0 if devices[0] != "cpu" or placements[0].cores else max(1, cores() // size)
        shared |= {"devices": devices, "threads": of_cores, "workers": max(1, plan.train.workers // size)}
        try:
            for rank, placement in enumerate(placements):
                own = json.dumps({**shared, "rank": rank, "cores": placement.cores})
                self.processes.append(start_process("finetuning.rank_process", own, self._file))
                threading.Thread(target=self._hear, args=(rank,), daemon=True).start()
        except BaseException:
            self.close()
            raise

    def _hear(self, rank: int) -> None:
        """Take down what a process says, to its end."""
        try:
            while True:
                self._messages.put((rank, recv(self.processes[rank])))
        except (EOFError, ValueError, OSError):
            self._messages.put((rank, {"ended": True}))

    def wait(self, is_stopping: Callable[[], bool], progress: Callable[[str, int, int], None]) -> None:
        """Wait until all are done.

        Args:
            is_stopping: Whether an end is asked for: then they stop after the same step, and write it down.
            progress: Gets what the first one says.

        Raises:
            FeatcacheError: what one of them failed of.
        """
        running, is_told = set(range(len(self.processes))), False
        while running:
            if is_stopping() and not is_told:
                is_told = True
                send(self.processes[0], {"stop": True})  # it tells the others, so that all stop after the same step
            try:
                rank, message = self._messages.get(timeout=_SECONDS)
            except queue.Empty:
                continue
            if "progress" in message:
                progress(*message["progress"])
            elif "done" in message:
                running.discard(rank)
            elif rank in running:
                raise self._failure(rank, message)

    def _failure(self, rank: int, message: dict[str, Any]) -> FeatcacheError:
        """Return the error of the process that failed first: the others only notice that it is gone."""
        failures, end = [(rank, message)], time.monotonic() + _OTHERS_SECONDS
        while not failures[-1][1].get("exit_code") and (seconds := end - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                failures.append(self._messages.get(timeout=seconds))
        last = failures[-1][1]
        if last.get("exit_code"):
            return _ERRORS[last["exit_code"]](last["failed"])
        reasons = [(place, failure["failed"]) for place, failure in failures if "failed" in failure]
        silent = [place for place, failure in failures if "ended" in failure and place not in dict(reasons)]
        place, reason = (silent[0], "it was killed") if silent else reasons[0]
        if not silent:
            sys.stderr.write(next((failure["trace"] for _, failure in failures if "trace" in failure), ""))
        return MachineError(
            f"process {place + 1} of {len(self.processes)} of the training has ended: {reason}; the same command goes "
            f"on from the last checkpoint"
        )

    def close(self) -> None:
        """End every process, and clear away what they shared."""
        for process in self.processes:
            process.kill()
        for process in self.processes:
            reap(process)
        self._file.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _settings_of(prepared: "PreparedTraining") -> dict[str, Any]:
    """Return what a process needs to prepare the same training, as JSON values."""
    job, plan = prepared.job, prepared.training.plan
    cache = job.request.folder
    copies = copies_folder(cache) if isinstance(cache, ObjectPath) else None
    source, layer = job.start.source, job.start.layer
    return {
        "section": source.portable_settings(), "spec": source.spec("float32", layer).to_json(), "layer": layer,
        "width": source.layer_width(layer), "seed": job.start.seed, "config": dataclasses.asdict(plan.config),
        "unfreeze": job.section.unfreeze, "mixed": job.section.mixed, "accumulate": plan.schedule.accumulate,
        "layer_decay": plan.layer_decay, "ema": plan.ema, "augmentation": job.augmentation.model_dump(),
        "select": plan.select, "classes": len(plan.train.listing.classes), "name": prepared.name,
        "cache": str(cache.absolute()), "copies": None if copies is None else str(copies),
        "folder": os.getcwd(), "path": sys.path,
    }  # fmt: skip


def train_on_devices(
    prepared: "PreparedTraining", placements: Sequence[Placement], *, checkpoint_seconds: float | None,
    progress: Callable[[str, int, int], None], logger: LoggerChoice | None,
) -> None:  # fmt: skip
    """Train from the checkpoint of a training to its end, on several devices; that is then in its checkpoint.

    Args:
        prepared: The training.
        placements: Where it runs.
        checkpoint_seconds: Between checkpoints within an epoch; None: one after each epoch.
        progress: Gets the stage, the images done, and those to do.
        logger: Where the scores of every epoch go, too.

    Raises:
        FeatcacheError: what one of the processes failed of.
    """
    log = logger and [logger.name, str(Path(logger.folder).absolute()), prepared.job.request.recipe.name, prepared.name]
    interruption = Interruption()
    with interruption.deferred():
        team = DeviceProcesses(prepared, placements, checkpoint_seconds=checkpoint_seconds, logger=log)
        try:
            team.wait(interruption.is_requested, progress)
        finally:
            team.close()
