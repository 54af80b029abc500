"""Trainings in processes of their own, each a fork of one that has everything loaded: what SIGKILL is aimed at.

`python tests/finetuning/killed_process.py` is that process. A line on its input is a training, {"folder": …, "plan":
…}; it answers with the fork's id, and to {"wait": id} with how the fork ended. A fork that reaches the end writes its
weights and its history to <folder>/end.safetensors.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
END = "end.safetensors"


class TrainingProcesses:
    """The process that forks, as a test speaks to it."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    def start(self, folder: Path, plan: str) -> int:
        """Begin a training, or go on from the checkpoint in its folder; return its process id."""
        return self._ask({"folder": str(folder), "plan": plan})

    def wait(self, pid: int) -> int:
        """Return its exit code; minus the signal that ended it."""
        return self._ask({"wait": pid})

    def _ask(self, request: dict[str, Any]) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@contextlib.contextmanager
def training_processes() -> Iterator[TrainingProcesses]:
    """Start the process that forks, and end it."""
    command = [sys.executable, "-W", "ignore", __file__]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, cwd=ROOT) as process:
        yield TrainingProcesses(process)


def _train(folder: Path, plan: str) -> None:
    """Train to the end, with a checkpoint after each step, and write the weights and the history down."""
    from safetensors.torch import save_file

    from featcache.finetuning.checkpoints import Checkpoint
    from tests.finetuning.small import resumed, run, training
    from tests.finetuning.test_resuming import PLANS

    checkpoint, job = Checkpoint(folder, "name"), training(**PLANS[plan])
    if checkpoint.load() is not None:
        job = resumed(job, checkpoint)
    job.plan = replace(job.plan, checkpoint=checkpoint, checkpoint_seconds=0.0)
    run(job)
    job.keep()
    state = {name: value.contiguous().clone() for name, value in job.network.state_dict().items()}
    save_file(state, folder / END, metadata={"history": repr(job.state.history)})


def _main() -> None:
    import torch

    import tests.finetuning.test_resuming  # noqa: F401

    torch.set_num_threads(1)
    answers = os.dup(1)
    os.dup2(2, 1)
    for line in sys.stdin.buffer:
        request = json.loads(line)
        if "wait" in request:
            answer = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
        elif (answer := os.fork()) == 0:
            code = 1
            try:
                _train(Path(request["folder"]), request["plan"])
                code = 0
            finally:
                os._exit(code)
        os.write(answers, f"{answer}\n".encode())


if __name__ == "__main__":
    _main()
