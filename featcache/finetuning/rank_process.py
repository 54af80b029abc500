"""One process of a training on several devices, which hears on its standard input and tells on its standard output.

A line of JSON each:

    > {"stop": true}                                   write the training down after this step, and end
    < {"progress": [stage, done, total]}               of the first process alone
    < {"done": true}                                   its last word: the checkpoint is that of the end, or of the stop
    < {"failed": reason, "exit_code": 5}               or this; 0 is no error of featcache

It begins at the checkpoint, as every other process does. It ends when its standard input does, so that it outlives its
parent by nothing, however that died.
"""

import io
import json
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from featcache.errors import FeatcacheError
from featcache.files.objects import ObjectPath, parse_path, use_local_copies
from featcache.loader import reply
from featcache.recipe import AugmentationSection, TrunkSection, is_import_path


def main(arguments: str, shared: int) -> None:
    """Train to the end, or until it is stopped; `shared` is the descriptor of the memory with the images."""
    replies = io.FileIO(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # gloo says there that it is connected
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # else a network without unused parameters is warned of
    settings, stop = json.loads(arguments), threading.Event()
    threading.Thread(target=_listen, args=(stop,), daemon=True).start()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)  # the parent decides: all processes stop after the same step
    if settings["cores"]:
        os.sched_setaffinity(0, settings["cores"])
    try:
        _train(settings, shared, stop.is_set, replies)
        last: dict[str, Any] = {"done": True}
    except FeatcacheError as error:
        last = {"failed": str(error), "exit_code": error.exit_code}
    except Exception as error:
        last = {"failed": f"{type(error).__name__}: {error}", "exit_code": 0}
        last["trace"] = traceback.format_exc()  # the parent shows it where this is the cause
    with suppress(OSError):
        reply(replies, last)
    os._exit("failed" in last)


def _listen(stop: threading.Event) -> None:
    for _ in sys.stdin.buffer:
        stop.set()
    os._exit(1)  # nobody is left


def _train(settings: dict[str, Any], shared: int, is_stopping: Callable[[], bool], replies: io.FileIO) -> None:
    rank, devices = settings["rank"], settings["devices"]
    os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "WORLD_SIZE": str(len(devices))}  # before Lightning
    if is_import_path(settings["section"]["arch"]):  # a module of one's own is imported as the parent imported it
        os.chdir(settings["folder"])
        sys.path += [folder for folder in settings["path"] if folder not in sys.path]
    import torch

    from featcache.finetuning.interruption import Interruption
    from featcache.finetuning.loggers import LoggerChoice
    from featcache.finetuning.running import run_training

    if settings["threads"]:
        torch.set_num_threads(settings["threads"])

    def progress(stage: str, done: int, total: int) -> None:
        if rank == 0:
            reply(replies, {"progress": [stage, done, total]})

    training = _prepare(settings, shared, is_stopping, progress)
    logger = settings["logger"]
    run_training(
        training, device=devices[rank], mixed=settings["mixed"], interruption=Interruption(),
        accumulate=settings["accumulate"], together=devices,
        logger=logger and LoggerChoice(logger[0], Path(logger[1])).make(*logger[2:]),
    )  # fmt: skip


def _join(settings: dict[str, Any]) -> Any:
    """Meet the other processes, and return this one among them."""
    import torch
    from torch import distributed

    from featcache.finetuning.ranks import Ranks

    loopback = [name for _, name in socket.if_nameindex() if name in ("lo", "lo0")]
    if loopback:  # a machine's own name need not be known to any resolver
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback[0])
    device, size = settings["devices"][settings["rank"]], len(settings["devices"])
    is_gpu = device.startswith("cuda")
    if is_gpu:
        torch.cuda.set_device(device)
    meeting = cast("Any", distributed).FileStore(settings["meeting"], size)
    distributed.init_process_group(
        "nccl" if is_gpu else "gloo", store=meeting, rank=settings["rank"], world_size=size
    )  # fmt: skip
    return Ranks(settings["rank"], size, distributed.new_group(backend="gloo"))


def _prepare(
    settings: dict[str, Any], shared: int, is_stopping: Callable[[], bool], progress: Callable[[str, int, int], None]
) -> Any:
    """Return the training at its checkpoint."""
    from featcache.finetuning.augmentation import TrainingAugmentation
    from featcache.finetuning.checkpoints import Checkpoint
    from featcache.finetuning.network import TrainableNetwork
    from featcache.finetuning.plan import FinetunePlan
    from featcache.finetuning.prepared import class_weights_of
    from featcache.finetuning.schedule import Schedule
    from featcache.finetuning.shared_images import open_images
    from featcache.finetuning.start import Start
    from featcache.finetuning.training import Training
    from featcache.heads import HeadConfig
    from featcache.trunks import TrunkSpec, WeightsMemo, name_trunk

    config, layer, cache = HeadConfig(**settings["config"]), settings["layer"], parse_path(settings["cache"])
    if settings["copies"]:
        use_local_copies(cast("ObjectPath", cache), Path(settings["copies"]))  # where the parent keeps the checkpoint
    transform = TrunkSpec.from_json(settings["spec"]).transform
    source = name_trunk(TrunkSection(**settings["section"]), WeightsMemo(cache, is_read_only=True), transform)
    train, val = (
        open_images(
            shared, settings["layout"], split, classes=settings["classes"], kind=config.targets, transform=transform,
            workers=settings["workers"],
        )
        for split in ("train", "val")
    )  # fmt: skip
    assert train is not None  # noqa: S101 (it is always shared)
    network = TrainableNetwork(
        Start(source, layer, "", seed=settings["seed"]).load(), layer, settings["width"], settings["classes"],
        transform, unfreeze=settings["unfreeze"], normalize=config.normalize,
    )  # fmt: skip
    augmentation = AugmentationSection(**settings["augmentation"])
    checkpoint = Checkpoint(cache, settings["name"])
    plan = FinetunePlan(
        config=config, schedule=Schedule(config, len(train), settings["accumulate"]), train=train, val=val,
        select=settings["select"], layer_decay=settings["layer_decay"], ema=settings["ema"],
        augmentation=TrainingAugmentation(augmentation, transform, config.seed) if augmentation.is_any else None,
        class_weights=class_weights_of(config, train), checkpoint=checkpoint,
        checkpoint_seconds=settings["checkpoint_seconds"], is_stopping=is_stopping, progress=progress,
        ranks=_join(settings),
    )  # fmt: skip
    training = Training(network, plan)
    stored = checkpoint.load()
    assert stored is not None  # noqa: S101 (the parent has written one)
    training.resume(*stored)
    return training
