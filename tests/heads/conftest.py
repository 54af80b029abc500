"""What the tests of heads share."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """These heads are so small that a second thread only waits, for seconds where the machine is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
