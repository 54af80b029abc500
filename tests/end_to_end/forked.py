"""Run many featcache commands fast: each in a fork of a process that has imported what they need."""

import importlib
import json
import os
import shlex
import sys
import tempfile
from typing import Any

import featcache.cli

# What commands import, so that a fork need not: nothing here starts a thread.
HEAVY = (
    "numba", "PIL.Image", "pydantic", "rich.table", "scipy.optimize", "scipy.stats", "skops.io", "sklearn.linear_model",
    "torch", "torchvision", "featcache.cli.corrections", "featcache.evaluation.evaluate_head",
    "featcache.extraction.command", "featcache.heads.fit_classifier", "featcache.heads.fit_linear",
    "featcache.heads.saved.classifier", "featcache.heads.training.numba_stack", "featcache.prediction.images",
    "featcache.report.render_summary", "featcache.report.page.build",
)  # fmt: skip


def run(command: str) -> dict[str, Any]:
    """Return the exit code and the output of a command, "featcache …", both streams in one."""
    with tempfile.TemporaryFile() as output:
        child = os.fork()
        if not child:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            sys.argv = shlex.split(command)
            code = 1
            try:
                featcache.cli.main()
            except SystemExit as end:
                code = int(end.code or 0)
            finally:
                sys.stdout.flush()
                os._exit(code)
        _, status = os.waitpid(child, 0)
        output.seek(0)
        return {"code": os.waitstatus_to_exitcode(status), "text": output.read().decode()}


if __name__ == "__main__":
    for name in HEAVY:
        importlib.import_module(name)
    for line in sys.stdin:
        sys.stdout.write(json.dumps(run(line)) + "\n")
        sys.stdout.flush()
