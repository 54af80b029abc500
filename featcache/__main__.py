"""python -m featcache, and the console script."""

import sys


def main() -> None:
    """Run the command line; Ctrl-C while it is still being imported is an interruption too."""
    try:
        from featcache.cli import main as command_line
    except KeyboardInterrupt:
        sys.exit(130)
    command_line()


if __name__ == "__main__":
    main()
