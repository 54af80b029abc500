"""What every Parquet file of ours shares: whether pyarrow is installed, and columns of text."""

import os
from collections.abc import Sequence
from typing import Any

from featcache.errors import UsageError


def require_pyarrow(wanted: str, otherwise: str) -> None:
    """Refuse a Parquet file where pyarrow is not installed; asked before any work is done.

    Args:
        wanted: the flag and the file: "--to train.parquet".
        otherwise: the suffixes that need no other package: ".h5, .npz".

    Raises:
        UsageError: pyarrow is not installed.
    """
    try:
        import pyarrow  # noqa: F401 (a broken one is found here too)
    except ImportError:
        raise UsageError(f"{wanted}: Parquet needs pyarrow: pip install pyarrow; or {otherwise}") from None


def arrow_text(column: Sequence[str]) -> Any:
    """Return a column as an Arrow array of text; of bytes where a name is not UTF-8.

    Args:
        column: its values; names that are not UTF-8 as `os.fsdecode` gives them.
    """
    import pyarrow as pa

    try:
        return pa.array(column, type=pa.string())
    except (UnicodeEncodeError, pa.ArrowInvalid):
        return pa.array([os.fsencode(text) for text in column], type=pa.binary())
