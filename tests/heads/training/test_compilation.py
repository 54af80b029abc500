"""What numba compiles, keeps and loads: the same numbers every time."""

import hashlib
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numba
import pytest

from featcache.heads.training.kernels import bfloat16, intrinsics, products, softmax, steps, tiles, updates, vectors


@pytest.mark.parametrize("module", [vectors, tiles, bfloat16, products, softmax, updates, steps])
def test_what_is_compiled_is_of_these_functions(module):
    """Numba looks for changes in a function's own file alone: each module names all whose functions it calls."""
    package = "featcache.heads.training.kernels."
    text = Path(module.__file__).read_text()
    imported = re.findall(rf"^from {re.escape(package)}(\w+) import", text, re.MULTILINE)
    for name, version in module.COMPILED_WITH.items():
        found = hashlib.sha256(Path(import_module(package + name).__file__).read_bytes()).hexdigest()[:16]
        assert found == version, f"write {name}'s new beginning into {module.__name__}"
    assert sorted(module.COMPILED_WITH) == sorted(imported)


def test_without_a_folder_for_what_is_compiled(tmp_path):
    """Where neither the package nor the user has a folder that can be written to, each process compiles for itself."""
    probe = (
        "import numba.core.caching as caching\n"
        "caching.CacheImpl._locator_classes = []\n"
        "from featcache.heads.training.kernels.intrinsics import compiled\n"
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
        "from featcache.heads.training.kernels.intrinsics import compiled, precompile\n"
        "inner = compiled(lambda x: x + 1)\n"
        "outer = compiled(lambda x: inner(x) + 1)\n"
        "precompile(outer, 1)\n"
        "print(outer(40))\n"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False, env=environment)
    assert (done.stdout, done.returncode) == ("42\n", 0), done.stderr


def test_llvm_may_not_choose_how_to_round():
    """No compiled function leaves LLVM free to round otherwise where it is inlined, vectorised or loaded from disk."""
    functions = [
        value
        for module in (intrinsics, bfloat16, products, softmax, updates, steps)
        for value in vars(module).values()
        if is_compiled(value)
    ]
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
from featcache.heads.training.numba_stack import NumbaStack
rng = np.random.default_rng(0)
y = rng.integers(0, 7, 600)
x = (rng.standard_normal((7, 40))[y] + rng.standard_normal((600, 40))).astype(np.float32)
rows = Features(x, y, tuple("abcdefg"), *[("",) * 600] * 3)
configs = [
    HeadConfig(optimizer=optimizer, epochs=20, batch_size=200, lr=0.01, weight_decay=decay)
    for optimizer in ("adam", "adamw", "sgd") for decay in (0.0, 0.01)
]
train.choose_stack = lambda *_, **__: NumbaStack
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
