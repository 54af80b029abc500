"""The command line: each command parses, calls one function, and prints. Heavy imports wait until they are needed."""

# In the order of --help.
from featcache.cli import stage_one, stage_two, report, search, classifiers, predict  # isort: skip
from featcache.cli import cache, demo
from featcache.cli import maintenance as upkeep
from featcache.cli.app import main

# Importing one makes its functions commands.
GROUPS = (stage_one, stage_two, report, search, classifiers, predict, cache, upkeep, demo)

__all__ = ["GROUPS", "main"]
