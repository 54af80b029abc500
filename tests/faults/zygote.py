"""Runs of extract in processes of their own that cost no import: a process with everything loaded forks for each.

A fork is as mortal as any process: killed, stopped and continued by its id, with descriptors and locks of its own,
and loader workers started by itself. `python tests/faults/zygote.py` is the process; `Zygote` speaks to it.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


class Run:
    """One run: `pid`, and how it ended once it has."""

    def __init__(self, zygote: "Zygote", pid: int) -> None:
        self.zygote, self.pid = zygote, pid

    def kill(self, number: int = signal.SIGKILL) -> None:
        os.kill(self.pid, number)

    def ended(self) -> bool:
        """Whether it is gone, or a zombie that nobody has asked for yet."""
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
        except OSError:
            return True

    def wait(self) -> int:
        """Its exit code; minus the signal that ended it."""
        return int(self.zygote.ask({"wait": self.pid})["code"])


class Zygote:
    def __enter__(self) -> "Zygote":
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", __file__],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, cwd=ROOT,
        )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self.process.stdout.close()

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, "the zygote died"
        found: dict[str, Any] = json.loads(answer)
        return found

    def start(self, world: Any, **how: Any) -> Run:
        """Begin an extract of `world`. `how`: kill_at, moment; limit_as, file_size; user; said (a file); watch (a file
        that holds how many images were embedded); and any option of `World.extract`.
        """
        request = {"images": world.images, "cache": world.cache, "weights": world.weights, "rows": world.shard_rows}
        found = self.ask({"start": {**{name: str(value) for name, value in request.items()}, "how": how}})
        return Run(self, found["pid"])

    def run(self, world: Any, **how: Any) -> int:
        return self.start(world, **how).wait()


def child(images: str, cache: str, weights: str, rows: str, how: dict[str, Any]) -> int:
    """An extract, as it was asked for; the exit code that the command line would give."""
    import featcache
    from featcache.files import publishing
    from featcache.files.objects import parse_path
    from tests.faults.shim import Kills, Shim
    from tests.faults.world import World

    world = World(Path(images), parse_path(cache), Path(weights), {}, int(rows))
    said = open(how.pop("said", os.devnull), "w")  # noqa: SIM115 (the process ends with it)
    if kill_at := how.pop("kill_at", None):
        publishing.os = Shim(Kills(kill_at, how.pop("moment")))
    if size := how.pop("file_size", None):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    if user := how.pop("user", None):
        os.setgid(user)
        os.setuid(user)
    watch = os.open(how.pop("watch"), os.O_RDWR) if "watch" in how else None

    def progress(now: featcache.extraction.Progress) -> None:
        if watch is not None:
            os.pwrite(watch, str(now.embedded).encode(), 0)

    try:
        world.extract(progress=progress, **how)
    except featcache.FeatcacheError as error:
        print(error, file=said, flush=True)
        return error.exit_code
    except BaseException:
        traceback.print_exc(file=said)
        return 1
    return 0


def main() -> None:
    import torch

    import tests.faults.world  # noqa: F401

    torch.set_num_threads(1)
    for line in sys.stdin.buffer:
        request = json.loads(line)
        if "wait" in request:
            _, status = os.waitpid(request["wait"], 0)
            answer = {"code": os.waitstatus_to_exitcode(status)}
        else:
            pid = os.fork()
            if pid == 0:
                quiet = os.open(os.devnull, os.O_RDWR)
                for handle in (0, 1, 2):
                    os.dup2(quiet, handle)
                os._exit(child(**request["start"]))
            answer = {"pid": pid}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
