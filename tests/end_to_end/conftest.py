"""What several end-to-end tests begin with."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Nano, Ran

Run = Callable[..., Ran]


@pytest.fixture
def extracted(run: Run, nano: Nano, folder: Path) -> Path:
    """The folder, with every split in the cache of the run's own folder."""
    assert run("extract", "--data", folder, *nano.flags).code == 0
    return folder
