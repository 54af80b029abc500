"""A fitted model from anybody: it cannot make scikit-learn read beyond its arrays, or answer for another shape."""

import re
import subprocess
import sys

import pytest

from tests.heads.saved import mutations


@pytest.mark.fault(36)
def test_a_damaged_model_is_refused_or_answers(portion, saw):
    """Other arrays and other plain values in it: no crash, no hang, no answer of another shape."""
    count = portion(2000, 100)
    command = [sys.executable, "-X", "faulthandler", "-m", mutations.__name__, "1", str(count)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3000, check=False)
    assert done.returncode == 0, done.stdout[-400:] + done.stderr[-2000:]
    refused = int(re.findall(rf"refused (\d+) of {count}\n", done.stdout)[-1])
    saw("an array or a value of model.skops replaced", "refused", refused)
    saw("an array or a value of model.skops replaced", "answers of the right shape", count - refused)
