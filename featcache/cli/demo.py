"""`featcache demo`."""

import os
import subprocess
import sys
from pathlib import Path

import typer

from featcache.cli.app import command
from featcache.cli.options import Cache
from featcache.cli.output import echo
from featcache.errors import UsageError


@command()
def demo(cache: Cache = None) -> None:
    """Run extract, fit-head and report on 500 handwritten digits, which need no download."""
    from featcache.cli import digits

    if Path("featcache.toml").exists():
        raise UsageError(
            "there is a featcache.toml here: the demo would mix with your project; run it in another folder"
        )
    root = Path("data/digits")
    if not root.exists():
        echo(f"writing 500 scans of handwritten digits to {root}")
        digits.write_digits(root)
    echo(f"looking for the pretrained weights (at most {digits.PROBE_SECONDS:.0f} s)")
    trunk = digits.choose_trunk(root.parent)
    if trunk.notice:
        echo(trunk.notice)
    for shown in digits.commands(trunk):
        echo(f"\n$ {shown}")
        sys.stdout.flush()
        environment = os.environ | ({"FEATCACHE_CACHE": cache} if cache else {})
        code = subprocess.run(shown.argv, check=False, env=environment).returncode
        if code:
            raise typer.Exit(code)
