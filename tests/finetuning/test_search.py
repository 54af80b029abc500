"""A search over fine-tunings: it decodes once, goes on where it was, prunes, and keeps the best network."""

import pytest

import featcache
from featcache.errors import CacheError, UsageError
from featcache.finetuning import images, prepared, search
from featcache.finetuning.checkpoints import Checkpoint
from featcache.finetuning.training import Training
from tests.conftest import write_images

COUNTS = {"train": {"0": 20, "1": 20}, "val": {"0": 10, "1": 10}}
SHAPE = {"filters": 8, "filter_size": "3", "dense": 16, "progression": "constant"}


class _Killed(BaseException):
    """What a kill is to a process that is only looked at afterwards."""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """60 digits of two classes."""
    return str(write_images(tmp_path_factory.mktemp("search") / "digits", COUNTS))


@pytest.fixture
def searched(data, tmp_path):
    """Search the settings of a tiny cnn of 32 pixels, from scratch; with these settings in place of ours."""

    def call(trials, cache="cache", **settings):
        small = {
            "arch": "cnn", "image_size": 32, "cnn": SHAPE, "start": "scratch", "epochs": 2, "batch_size": 20,
            "device": "cpu", "workers": 1,
        }  # fmt: skip
        return featcache.search_finetune(trials, data=data, cache=str(tmp_path / cache), **{**small, **settings})

    return call


def _trials(found):
    """What a study holds: of each trial that ended, its settings and the score."""
    study = search.open_study(found.study, seed=0, startup_trials=1, warmup_epochs=1)
    return [(t.state.name, t.params, t.values) for t in study.trials if t.state.name != "FAIL"]


def test_a_search_goes_on_and_keeps_the_best(searched, monkeypatch):
    """The same call adds what is missing, decodes once for all trials, and keeps the best without training it again."""
    reads, steps = [], []
    read, step = images.read_images, Training.training_step
    monkeypatch.setattr(
        images, "read_images", lambda files, *rest, **more: (reads.append(len(files)), read(files, *rest, **more))[1]
    )
    monkeypatch.setattr(Training, "training_step", lambda self, *batch: (steps.append(1), step(self, *batch))[1])
    first = searched(2)
    assert (first.trials, first.new) == (2, 2)
    assert reads == [40, 20]
    assert len(steps) == 2 * 2 * 2  # trials, epochs, batches
    assert first.tuned.weights.is_file()
    assert not (first.study.parent / "unfinished").exists()
    assert set(first.settings) == {
        "optimizer",
        "lr",
        "weight_decay",
        "label_smoothing",
        "activation",
        "batch_norm",
        "dropout",
    }

    more = searched(3)
    assert (more.trials, more.new, more.study) == (3, 1, first.study)
    best = max((values[0] for _, _, values in _trials(more) if values), default=None)
    assert more.tuned.fit.heads[0].head.val.macro_recall == pytest.approx(best)
    assert set(more.to_json()) >= {"heads", "weights", "best_settings", "trials", "new_trials", "pruned", "study"}


def test_a_stopped_search_ends_as_one_that_was_not(searched, monkeypatch):
    """Killed within a trial, the search goes on from its checkpoint: the same trials, the same network."""
    whole, save, saves = searched(3, "whole"), Checkpoint.save, []

    def save_and_die(self, *what):
        save(self, *what)
        saves.append(1)
        if len(saves) == 3:  # the first epoch of the second trial
            raise _Killed

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoint, "save", save_and_die)
        with pytest.raises(_Killed):
            searched(3)
    resumed = []
    prepare = prepared._resume
    monkeypatch.setattr(prepared, "_resume", lambda *what: resumed.append(prepare(*what)) or resumed[-1])
    again = searched(3)
    assert (again.trials, again.new) == (3, 2)
    assert resumed[0] == 1
    assert _trials(again) == _trials(whole)
    assert again.tuned.weights.read_bytes() == whole.tuned.weights.read_bytes()


def test_a_worse_trial_is_given_up(searched, monkeypatch):
    """A trial below the median of those before it ends early, counts as pruned, and leaves no checkpoint."""
    monkeypatch.setattr(search, "STARTUP_TRIALS", 1)
    found = searched(5, epochs=3, select="loss")
    ended = [state for state, _, _ in _trials(found)]
    assert ended.count("PRUNED") == found.pruned > 0
    assert not (found.study.parent / "unfinished").exists()
    assert found.tuned.epochs == 3


def test_what_is_given_is_held_fixed(searched):
    """A setting that is given is not searched, and another space is another study."""
    found = searched(1, optimizer="sgd", lr=0.01, epochs=1)
    assert {"optimizer", "lr"}.isdisjoint(found.settings)
    config = found.tuned.fit.heads[0].head.config
    assert (config.optimizer, config.lr) == ("sgd", 0.01)
    assert searched(1, optimizer="sgd", epochs=1).study != found.study


def test_refused(searched, tmp_path):
    """No trials, no val split, and a study that is none are refused with the way out."""
    with pytest.raises(UsageError, match="--trials"):
        searched(0)
    write_images(tmp_path / "bare", {"train": COUNTS["train"]})
    with pytest.raises(CacheError, match=r"a search needs a val split.*--val"):
        featcache.search_finetune(
            1, data=str(tmp_path / "bare"), cache=str(tmp_path / "cache"), arch="cnn", start="scratch"
        )
