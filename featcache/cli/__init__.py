"""The command line: each command parses, calls one function, and prints. Heavy imports wait until they are needed."""

from featcache.cli import stage_one, stage_two, search, predict, cache, upkeep, demo  # isort: skip (the order of --help)
from featcache.cli.app import main

GROUPS = (stage_one, stage_two, search, predict, cache, upkeep, demo)  # importing a module makes its functions commands

__all__ = ["GROUPS", "main"]
