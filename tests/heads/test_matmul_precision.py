"""The setting of a linear head's matrix products: what it is called, where it is kept, and where it is refused."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import featcache
from featcache.errors import MachineError, UsageError
from featcache.heads.config import HeadConfig
from featcache.heads.saved.linear import load_head
from featcache.heads.training.kernels import HAS_BFLOAT16
from featcache.heads.training.train import train_heads
from tests.builders import cluster_rows, record, uneven_clusters

SPLITS = {"train": cluster_rows(1), "val": cluster_rows(2), "test": cluster_rows(3)}
BF16 = HeadConfig(epochs=2, matmul_precision="bf16")
needs_bfloat16 = pytest.mark.skipif(not HAS_BFLOAT16, reason="this processor multiplies no bfloat16s")


def fit(cache, **options) -> featcache.Fit:
    return featcache.fit_head(0.1, data="/data/toy", cache=cache, epochs=2, check_seconds=None, device="cpu", **options)


def test_default_heads_do_not_show_it():
    """A head of float32s has the name and the settings in head.json that it had before, one of bfloat16s says so."""
    plain = replace(BF16, matmul_precision="fp32")
    assert plain == HeadConfig(epochs=2)
    assert "matmul_precision" not in plain.recorded
    assert BF16.name == "lr0.003-bf16-epochs2"
    assert BF16.recorded == {**plain.recorded, "matmul_precision": "bf16"}


def test_heads_of_different_products_train_apart():
    """Heads that differ in it are no heads of one stack."""
    assert BF16.batch_key != replace(BF16, matmul_precision="fp32").batch_key


@pytest.mark.parametrize(
    "others", [{"head": "mlp"}, {"head": "attention"}, {"loss": "binary_cross_entropy"}, {"loss": "huber"}]
)
def test_other_heads_are_refused(others):
    """A module, and a head on several labels or numbers, has no products in bfloat16."""
    with pytest.raises(UsageError, match="matmul_precision is 'bf16', expected 'fp32': only linear heads"):
        replace(BF16, **others)


def test_a_flag_that_a_head_does_not_have_is_refused(tmp_path):
    """Typed beside a module it is refused before anything is read."""
    with pytest.raises(UsageError, match="--matmul-precision has no effect with --head mlp: it is a setting of linear"):
        fit(tmp_path, head="mlp", matmul_precision="bf16")


def test_another_device_is_refused():
    """A GPU has no such products here, and the message says what to leave out."""
    with pytest.raises(UsageError, match=r"found the device cuda, expected cpu.*or take --matmul-precision fp32"):
        train_heads(uneven_clusters(), None, [BF16], device="cuda")


def test_a_processor_without_the_instructions_is_refused(monkeypatch):
    """Nothing is emulated: where the processor multiplies no bfloat16s the message says what to leave out."""
    monkeypatch.setattr("featcache.heads.training.kernels.HAS_BFLOAT16", False)
    with pytest.raises(MachineError, match=r"AVX-512 BF16.*take --matmul-precision fp32"):
        train_heads(uneven_clusters(), None, [BF16])
    train_heads(uneven_clusters(), None, [replace(BF16, matmul_precision="fp32")])


@needs_bfloat16
def test_it_is_refused_where_numba_compiles_for_another_processor(monkeypatch):
    """LLVM would end the process: the message names the variables that ask for it."""
    monkeypatch.setattr("numba.config.CPU_NAME", "x86-64-v3")
    with pytest.raises(MachineError, match=r"NUMBA_CPU_NAME.*unset it, or take --matmul-precision fp32"):
        train_heads(uneven_clusters(), None, [BF16])


def test_it_is_refused_before_anything_is_read(monkeypatch, tmp_path):
    """Without a cache, what is said is that the processor cannot, and what to type."""
    monkeypatch.setattr("featcache.heads.training.kernels.HAS_BFLOAT16", False)
    with pytest.raises(MachineError, match="AVX-512 BF16") as refused:
        fit(tmp_path, matmul_precision="bf16")
    assert refused.value.corrections


OLDER_PROCESSOR = """
import llvmlite.binding as binding
features = binding.get_host_cpu_features()
features.update({name: False for name in features if name.startswith("avx512")})
binding.get_host_cpu_features = lambda: features
from tests.heads.test_matmul_precision import BF16, replace, train_heads, uneven_clusters
train_heads(uneven_clusters(), None, [replace(BF16, matmul_precision="fp32")])
from featcache.heads.training.kernels.steps import train_steps
(code,) = train_steps.inspect_asm().values()
assert "ymm" in code and "bf16" not in code and "zmm" not in code
"""


@needs_bfloat16
def test_an_older_processor_compiles_none_of_it(tmp_path):
    """Compiled for a processor without AVX-512, the loops of float32s hold no instruction of bfloat16s."""
    older = {"NUMBA_CPU_NAME": "x86-64-v3", "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", OLDER_PROCESSOR]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **older})
    assert done.returncode == 0, done.stderr


@needs_bfloat16
def test_a_head_of_bfloat16s_is_kept_as_any_other(tmp_path):
    """Trained in a grid beside its float32 twin it is saved, loads with its setting, and reports on test."""
    record(tmp_path, SPLITS)
    made = fit(tmp_path, grid="matmul_precision=fp32,bf16")
    plain, rounded = (saved.head for saved in made.heads)
    assert (plain.config.matmul_precision, rounded.config.matmul_precision) == ("fp32", "bf16")
    assert not np.array_equal(plain.weight, rounded.weight)
    (saved,) = fit(tmp_path, matmul_precision="bf16").heads
    np.testing.assert_array_equal(saved.head.weight, rounded.weight)
    assert json.loads((saved.folder / "head.json").read_text())["config"]["matmul_precision"] == "bf16"
    loaded = load_head(saved.folder)
    assert loaded.head.config == saved.head.config
    np.testing.assert_array_equal(loaded.head.weight, saved.head.weight)
    on_test = featcache.evaluate(saved.name, data="/data/toy", cache=tmp_path)
    x, y = SPLITS["test"]
    assert on_test.accuracy == ((x @ saved.head.weight.T + saved.head.bias).argmax(axis=1) == y).mean()


@needs_bfloat16
def test_scores_are_those_of_the_float32_weights():
    """The final scores are what the saved weights answer in float32, as those of any head."""
    rows = uneven_clusters()
    (head,) = train_heads(rows, rows, [replace(BF16, lr=0.1)])
    right = (rows.x @ head.weight.T + head.bias).argmax(axis=1) == rows.y
    assert head.val is not None
    assert head.val.accuracy == head.train.accuracy == right.mean()
