"""What the tests of heads share."""

import pytest

from tests.conftest import single_thread

one_thread = pytest.fixture(autouse=True, scope="module")(single_thread)
