"""What the tests of heads share."""

from contextlib import contextmanager

import pytest

from featcache.heads.training.numba_stack import NumbaStack
from featcache.heads.training.stack import HeadStack
from featcache.heads.training.torch_stack import TorchStack
from tests.conftest import single_thread

one_thread = pytest.fixture(autouse=True, scope="module")(single_thread)


@contextmanager
def steps_by(kind: type[HeadStack]):
    """Whatever the device and the work, heads are trained by this one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("featcache.heads.training.train.choose_stack", lambda *_, **__: kind)
        yield


def share_every_step(patch: pytest.MonkeyPatch) -> None:
    """However small a step, all members of a team take part in it."""
    patch.setattr("featcache.heads.training.numba_stack.MIN_SLICE_ROWS", 1)
    patch.setattr("featcache.heads.training.numba_stack.LEAST_SHARED_STEP", 0)


@pytest.fixture(scope="module", params=[TorchStack, NumbaStack])
def either(request):
    """Each test of the module twice: by torch's operations, as on a GPU, and by the loops of a CPU."""
    with steps_by(request.param):
        yield request.param
