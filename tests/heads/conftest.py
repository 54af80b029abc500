"""What the tests of heads share."""

from contextlib import contextmanager

import pytest

from featcache.heads.stack import Heads
from tests.conftest import single_thread

one_thread = pytest.fixture(autouse=True, scope="module")(single_thread)


@contextmanager
def steps_by(kind: type[Heads]):
    """Whatever the device, heads are trained by this one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("featcache.heads.train.stack_for", lambda train: kind)
        yield
