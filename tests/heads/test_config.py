"""HeadConfig: the recipe's numbers, its name, and what it refuses."""

import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from featcache.errors import UsageError
from featcache.heads.config import SETTINGS, HeadConfig


def test_recipe_steps():
    """The default recipe on the 259,865 rows of Drive&Act takes 22,860 steps."""
    assert HeadConfig().steps(259_865) == 22_860


@given(rows=st.integers(1, 10**6), batch=st.integers(1, 5000), epochs=st.integers(1, 200))
def test_steps_count_the_batches(rows, batch, epochs):
    """Steps are the batches that cover every row once, partial one included, times the epochs."""
    steps = HeadConfig(batch_size=batch, epochs=epochs).steps(rows)
    assert steps == epochs * len(range(0, rows, batch))


@settings(deadline=None)  # torch is slow at first
@given(lr=st.floats(1e-6, 10), steps=st.integers(1, 60))
def test_cosine_is_torchs(lr, steps):
    """The learning rate of every step is that of torch's CosineAnnealingLR over all steps."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    config = HeadConfig(lr=lr)
    for step in range(steps):
        assert config.lr_at(step, steps) == pytest.approx(scheduler.get_last_lr()[0], rel=1e-9, abs=lr * 1e-12)
        optimizer.step()
        scheduler.step()


def test_first_and_last_rate():
    """The first step has the learning rate itself, the last one is above zero."""
    config = HeadConfig(lr=0.5)
    assert config.lr_at(0, 100) == 0.5
    assert 0 < config.lr_at(99, 100) < 0.001


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (HeadConfig(), "lr0.003"),
        (HeadConfig(lr=1), "lr1"),
        (HeadConfig(lr=1e-5, weight_decay=1e-4), "lr1e-05-wd0.0001"),
        (HeadConfig(clip_norm=None, epochs=10, seed=3), "lr0.003-clipnone-epochs10-seed3"),
        (HeadConfig(momentum=0.0, batch_size=64), "lr0.003-momentum0-batch64"),
        (HeadConfig(optimizer="adamw", standardize=True, patience=5), "lr0.003-adamw-patience5-standardize"),
        (HeadConfig(head="mlp"), "mlp-lr0.003"),
        (HeadConfig(head="mlp", hidden="512,256", lr=0.1, dropout=0.3), "mlp-lr0.1-hidden512x256-dropout0.3"),
        (HeadConfig(head="mlp", hidden=64, activation="gelu", batch_norm=True), "mlp-lr0.003-hidden64-gelu-batchnorm"),
    ],
)
def test_name(config, name):
    """A head is named by what it is, its learning rate and what differs from the defaults."""
    assert config.name == name


@given(st.floats(1e-9, 1e9), st.floats(1e-9, 1e9))
def test_different_rates_have_different_names(one, other):
    """Two learning rates that differ by more than 1e-12 never share a name."""
    same = HeadConfig(lr=one).name == HeadConfig(lr=other).name
    assert not same or math.isclose(one, other, rel_tol=1e-12)


@pytest.mark.parametrize(
    "wrong",
    [
        {"optimizer": "adagrad"},
        {"head": "cnn"},
        {"hidden": "512,"},
        {"hidden": "0"},
        {"hidden": True},
        {"dropout": 1.0},
        {"schedule": "linear"},
        {"warmup": 90.0},
        {"warmup": -1},
        {"plateau_epochs": 0},
        {"patience": 0},
        {"class_weights": "inverse"},
        {"sampler": "random"},
        {"logit_adjustment": -1.0},
        {"label_smoothing": 1.0},
        {"standardize": 1},
        {"lr": 0.0},
        {"lr": math.nan},
        {"lr": True},
        {"momentum": 1.0},
        {"momentum": -0.1},
        {"weight_decay": -1e-4},
        {"weight_decay": math.inf},
        {"clip_norm": 0.0},
        {"batch_size": 0},
        {"batch_size": 1.5},
        {"epochs": 0},
        {"seed": -1},
        {"seed": 2**63},
    ],
)
def test_refused(wrong):
    """A setting out of its range is refused, with its name and what was found."""
    (name, value), *_ = wrong.items()
    with pytest.raises(UsageError, match=name) as caught:
        HeadConfig(**wrong)
    assert repr(value) in str(caught.value)
    assert "expected" in str(caught.value)


@pytest.mark.parametrize("name", [name for name, setting in SETTINGS.items() if setting.kind in (int, float)])
@pytest.mark.parametrize("value", [10**400, -(10**400), 10**5000], ids=["400 digits", "negative", "5,000 digits"])
def test_a_number_that_no_float_holds_is_refused(name, value):
    """A whole number of hundreds of digits is refused as infinity is, in a message of one line."""
    with pytest.raises(UsageError, match=name) as caught:
        HeadConfig(**{name: value})
    assert "expected" in str(caught.value)
    assert len(str(caught.value)) < 200


def test_all_problems_at_once():
    """Two wrong settings are both named in one error."""
    with pytest.raises(UsageError, match=r"lr is -1.*epochs is 0"):
        HeadConfig(lr=-1, epochs=0)


def test_heads_without_torch():
    """A head that was saved is used, scored and compared without torch being imported."""
    code = "import sys; import featcache.heads.linear; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
