"""python -m featcache, and the console script."""

import gc
import os
import sys

_OBJECTS = 50_000  # between two collections; Python's own 700 costs a seventh of the time that torch takes to import
_RESERVE = 1 << 20  # bytes


def main() -> None:
    """Run the command line.

    While it is still being imported, Ctrl-C is an interruption too, and the system may refuse it memory.
    """
    gc.set_threshold(_OBJECTS)
    reserve = [bytes(_RESERVE)]  # for what is done once memory has ended
    try:
        from featcache.os_refusals import translate_refusal

        try:
            from featcache.cli import main as command_line

            command_line()
        except Exception as error:
            reserve.clear()
            refused = translate_refusal(error)
            if refused is None or os.environ.get("FEATCACHE_DEBUG"):
                raise
            _leave(f"error: {refused}")
    except KeyboardInterrupt:
        sys.exit(130)
    except MemoryError:
        reserve.clear()
        # On a line of its own: Python may have begun one, and had no memory to end it.
        _leave("\nerror: not enough memory: end other programs, or raise the limit (ulimit -v)")


def _leave(text: str) -> None:
    """Say it and end with 5, at once: what would run at the end may need what is not there."""
    os.write(2, text.encode("utf-8", "backslashreplace") + b"\n")
    os._exit(5)


if __name__ == "__main__":
    main()
