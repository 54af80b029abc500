"""The command line: each command parses, calls one function, and prints. Heavy imports wait until they are needed."""

# Importing a module makes its functions commands, in the order of --help.
from featcache.cli import init, extract, fit_head, report, search, finetune, classifiers, predict  # isort: skip
from featcache.cli import info, trunks, maintenance, demo  # isort: skip
from featcache.cli.app import main

COMMANDS = (init, extract, fit_head, report, search, finetune, classifiers, predict, info, trunks, maintenance, demo)

__all__ = ["COMMANDS", "main"]
