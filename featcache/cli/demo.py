"""`featcache demo`."""

import os
import subprocess
import sys
from pathlib import Path

import typer

from featcache.cli.app import Cache, command, say
from featcache.errors import UsageError


@command()
def demo(cache: Cache = None) -> None:
    """The whole way on 500 handwritten digits, which need no download: extract, fit-head, report."""
    from featcache.cli import digits

    if Path("featcache.toml").exists():
        raise UsageError("featcache.toml stands here: the demo would mix with your project; run it in another folder")
    root = Path("data/digits")
    if not root.exists():
        say(f"writing 500 scans of handwritten digits to {root}")
        digits.write_digits(root)
    say(f"asking for the pretrained weights (at most {digits.PROBE_SECONDS:.0f} s)")
    trained = digits.pretrained()
    if not trained:
        say(
            "\n*** The pretrained weights are out of reach: the trunk is RANDOM (seeded); the scores below show the "
            "pipeline, not the model. ***"
        )
    for shown in digits.commands(trained=trained):
        say(f"\n$ {shown}")
        sys.stdout.flush()
        environment = os.environ | ({"FEATCACHE_CACHE": cache} if cache else {})
        code = subprocess.run(shown.argv, check=False, env=environment).returncode
        if code:
            raise typer.Exit(code)
