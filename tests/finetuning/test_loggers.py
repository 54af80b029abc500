"""The scores of every epoch, in Lightning's loggers."""

import csv
import inspect
import math
from dataclasses import replace

import pytest
from lightning.pytorch import loggers as every

from featcache.errors import MachineError, UsageError
from featcache.finetuning import loggers
from featcache.finetuning.checkpoints import Checkpoint
from featcache.finetuning.command import choose_logger
from featcache.finetuning.loggers import LOGGERS, LoggerChoice, figures_of
from featcache.heads import EpochRow
from featcache.heads.linear import TargetScores
from tests.finetuning.small import resumed, run, training


def _table(folder) -> list[dict[str, str]]:
    (path,) = folder.rglob("metrics.csv")
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_table_has_a_row_for_each_epoch_also_of_a_training_that_was_stopped(tmp_path):
    """What the table holds at the end is the history of the head, whether the training was stopped within or not."""
    checkpoint, logger = Checkpoint(tmp_path, "name"), LoggerChoice("csv", tmp_path)
    stopping, requests = training(), []

    def progress(stage, done, total):
        if done == 28:  # the first batch of the second epoch
            requests.append(done)

    stopping.plan = replace(stopping.plan, checkpoint=checkpoint, is_stopping=lambda: bool(requests), progress=progress)
    run(stopping, logger=logger.make("photos", "name"))
    assert len(_table(tmp_path)) == 1
    whole = run(resumed(training(), checkpoint), logger=logger.make("photos", "name"))
    table = _table(tmp_path)
    assert len(table) == 3
    for row, written in zip(whole.state.history, table, strict=True):
        assert int(written["step"]) == row.epoch
        for name, value in figures_of(row).items():
            assert math.isclose(float(written[name]), value)


def test_an_epoch_of_numbers_has_their_metrics():
    """Targets that have no accuracy have their own metrics beside the loss."""
    nan = math.nan
    row = EpochRow(1, TargetScores(nan, nan, 0.5), TargetScores(nan, nan, 0.7, {"r2": 0.9, "mae": 0.1}))
    assert figures_of(row) == {"train_loss": 0.5, "val_loss": 0.7, "val_r2": 0.9, "val_mae": 0.1}


def test_every_name_is_a_logger_of_lightning():
    """Each name stands for a class that Lightning has, with the arguments that it takes."""
    for kind, _, arguments in loggers._LOGGERS.values():
        taken = inspect.signature(getattr(every, kind)).parameters
        given = arguments(LoggerChoice("csv").folder, "photos", "name")
        assert given.keys() <= taken.keys() or any(one.kind == one.VAR_KEYWORD for one in taken.values())


def test_a_logger_that_cannot_be_had_is_one_sentence(monkeypatch):
    """A misspelt name, a package that is not installed, and a folder without a logger are refused with the way out."""
    with pytest.raises(UsageError, match="expected one of csv, tensorboard, wandb, mlflow") as caught:
        choose_logger("tensorbord", None)
    assert caught.value.corrections[0].right == "tensorboard"
    monkeypatch.setattr(loggers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MachineError, match="wandb is not installed: pip install wandb"):
        choose_logger("wandb", None)
    with pytest.raises(UsageError, match="--log-folder has no effect without --logger"):
        choose_logger(None, "curves")
    assert choose_logger(None, None) is None
    assert LOGGERS[0] == "csv"
