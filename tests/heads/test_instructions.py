"""The single instructions that our loops are made of."""

import os
import subprocess
import sys

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcache.heads.training import intrinsics, kernels
from featcache.heads.training.intrinsics import SGEMM, compiled, exp2, sgemm


@compiled
def powers(x, out):
    for i in range(len(x)):
        out[i] = exp2(x[i])


@compiled
def product(blas, of_b, m, n, k, alpha, a, b, beta, c):
    sgemm(blas, of_b, m, n, k, alpha, a, b, beta, c)


def exp2_of(x):
    out = np.empty(len(x), np.float32)
    powers(np.asarray(x, np.float32), out)
    return out


@given(st.lists(st.floats(-126, 0, width=32), min_size=1, max_size=40))
def test_exp2(x):
    """2^x to 1e-7 of it, in a vector's lanes and in what is left over."""
    np.testing.assert_allclose(exp2_of(x), np.exp2(np.array(x)), rtol=1e-7)


def test_exp2_at_the_ends():
    """Whole numbers are exact; what is less than a float32 has digits for is 2^-126, and nan stays nan."""
    whole = np.arange(-126, 1)
    assert exp2_of(whole).tolist() == (2.0**whole).tolist()
    ends = exp2_of([-127, -1e30, -np.inf, np.nan])
    assert ends[:3].tolist() == [2.0**-126] * 3
    assert np.isnan(ends[3])


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("m", "n", "k"), [(1, 1, 1), (34, 7, 784), (5, 784, 3), (272, 64, 65)])
def test_sgemm(m, n, k, turned):
    """C becomes alpha B A (or B' A) + beta C, row by row as NumPy has them."""
    rng = np.random.default_rng(0)
    a, c = (rng.standard_normal(shape).astype(np.float32) for shape in ((k, m), (n, m)))
    b = rng.standard_normal((k, n) if turned else (n, k)).astype(np.float32)
    expected = 0.5 * (b.T if turned else b).astype(np.float64) @ a + 2.0 * c
    product(SGEMM, 84 if turned else 78, m, n, k, np.float32(0.5), a, b, np.float32(2), c)
    np.testing.assert_allclose(c, expected, rtol=1e-4, atol=1e-4)


def test_without_a_folder_for_what_is_compiled(tmp_path):
    """Where neither the package nor the user has a folder that can be written to, each process compiles for itself."""
    probe = (
        "import numba.core.caching as caching\n"
        "caching.CacheImpl._locator_classes = []\n"
        "from featcache.heads.training.intrinsics import compiled\n"
        "print(compiled(lambda x: x + 1)(41))\n"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("42\n", 0), done.stderr


def test_a_disk_that_is_full(tmp_path):
    """Where what was compiled cannot be kept, it serves the process that compiled it."""
    probe = (
        "import numba.core.caching as caching\n"
        "def full(self, name, data): raise OSError(28, 'No space left on device')\n"
        "caching.IndexDataCacheFile._save_data = full\n"
        "from featcache.heads.training.intrinsics import compiled, ready\n"
        "inner = compiled(lambda x: x + 1)\n"
        "outer = compiled(lambda x: inner(x) + 1)\n"
        "ready(outer, 1)\n"
        "print(outer(40))\n"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False, env=environment)
    assert (done.stdout, done.returncode) == ("42\n", 0), done.stderr


def test_llvm_may_not_choose_how_to_round():
    """No compiled function leaves LLVM free to round otherwise where it is inlined, vectorised or loaded from disk."""
    functions = [value for module in (intrinsics, kernels) for value in vars(module).values() if is_compiled(value)]
    assert len(functions) > 10
    assert not any(function.targetoptions.get("fastmath") for function in functions)


def is_compiled(value) -> bool:
    return isinstance(value, numba.core.dispatcher.Dispatcher)


TRAINING = """
import sys
import hashlib
import numpy as np
if "unwritable" in sys.argv:
    import numba.core.caching as caching
    caching.CacheImpl._locator_classes = []
from featcache.features.in_memory import Features
from featcache.heads.training import train
from featcache.heads.config import HeadConfig
from featcache.heads.training.numba_stack import FusedStack
rng = np.random.default_rng(0)
y = rng.integers(0, 7, 600)
x = (rng.standard_normal((7, 40))[y] + rng.standard_normal((600, 40))).astype(np.float32)
rows = Features(x, y, tuple("abcdefg"), *[("",) * 600] * 3)
configs = [
    HeadConfig(optimizer=optimizer, epochs=20, batch_size=200, lr=0.01, weight_decay=decay)
    for optimizer in ("adam", "adamw", "sgd") for decay in (0.0, 0.01)
]
train.stack_for = lambda *of: FusedStack
for head in train.train_heads(rows, rows, configs):
    print(hashlib.sha256(head.weight.tobytes() + head.bias.tobytes() + repr(head.history).encode()).hexdigest())
"""


def test_the_first_training_is_the_second(tmp_path):
    """With nothing compiled yet, with all of it on disk, with nowhere to keep it, and two at once: the same bytes."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}

    def begun(*how: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", TRAINING, *how]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)

    at_once = [begun("cold"), begun("unwritable")]
    outputs = [process.communicate()[0] for process in at_once]
    assert list(tmp_path.rglob("*.nbc"))
    outputs.append(begun("warm").communicate()[0])
    assert outputs == outputs[:1] * 3
    assert len(outputs[0].split()) == 6
    adam, _, adamw, *_ = outputs[0].split()
    assert adam == adamw  # without decay they are one algorithm
