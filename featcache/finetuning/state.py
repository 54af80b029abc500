"""How far a training has come: what is written down with its tensors, so that it goes on as if it had not stopped."""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from featcache.heads import EpochRow, Scores, TargetScores
from featcache.heads.saved import finite_or_none
from featcache.metrics import accuracy, macro_recall

if TYPE_CHECKING:
    from featcache.finetuning.ranks import Ranks


@dataclass(slots=True, eq=False)
class RunningScores:
    """The scores on the training images that an epoch has seen so far, of each step's own logits."""

    confusion: npt.NDArray[np.int64]  # (classes, classes)
    loss: float = 0.0  # nats, summed
    rows: int = 0  # of images with several labels or numbers, which the matrix does not count

    def over(self, ranks: "Ranks") -> "RunningScores":
        """Return the scores of all processes that train together.

        Args:
            ranks: This process among them.
        """
        if ranks.size == 1:
            return self
        import torch

        counts = ranks.add_up(torch.tensor([*self.confusion.ravel().tolist(), self.rows], dtype=torch.int64)).numpy()
        loss = ranks.add_up(torch.tensor([self.loss], dtype=torch.float64))
        return RunningScores(counts[:-1].reshape(self.confusion.shape), float(loss), int(counts[-1]))

    def scores(self) -> Scores:
        """Return the scores of what was seen; nan where that is nothing."""
        rows = self.rows or int(self.confusion.sum())
        if self.rows:
            return Scores(math.nan, math.nan, self.loss / rows)
        return Scores(accuracy(self.confusion), macro_recall(self.confusion), self.loss / rows if rows else math.nan)


@dataclass(slots=True, eq=False)
class TrainingState:
    """How far a training has come, all but its tensors."""

    running: RunningScores
    epoch: int = 0  # epochs that are done
    batch: int = 0  # batches of the next one that are done
    step: int = 0  # steps of the optimizer, of the whole training
    history: list[EpochRow] = field(default_factory=list)  # with epoch 0 where the training starts from a head
    scaler: dict[str, float] = field(default_factory=dict)  # what float16 multiplies the loss by; else nothing

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "epoch": self.epoch, "batch": self.batch, "step": self.step,
            "confusion": self.running.confusion.tolist(), "loss": self.running.loss,
            "rows": self.running.rows,
            "history": [[row.epoch, _numbers(row.train), _numbers(row.val)] for row in self.history],
            **({"scaler": self.scaler} if self.scaler else {}),
        }  # fmt: skip

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "TrainingState":
        """Return what `to_json` wrote.

        Raises:
            ValueError: it is something else.
        """
        try:
            confusion = np.array(document["confusion"], dtype=np.int64)
            running = RunningScores(confusion, float(document["loss"]), int(document.get("rows", 0)))
            history = [
                EpochRow(epoch, _scores(train) or _UNKNOWN, _scores(val)) for epoch, train, val in document["history"]
            ]
            epoch, batch, step = (int(document[name]) for name in ("epoch", "batch", "step"))
            return cls(running, epoch, batch, step, history, dict(document.get("scaler", {})))
        except (KeyError, TypeError) as error:
            raise ValueError(f"it is no state of a training: {error!r}") from None


_UNKNOWN = Scores(math.nan, math.nan, math.nan)


def _numbers(scores: Scores | None) -> list[Any] | None:
    """Return the numbers of scores, behind them the metrics of several labels or numbers; None: not finite."""
    if scores is None:
        return None
    values = [finite_or_none(value) for value in (scores.accuracy, scores.macro_recall, scores.loss)]
    metrics = {name: finite_or_none(value) for name, value in scores.metrics.items()}
    return [*values, *([metrics] if metrics else [])]


def _scores(numbers: list[Any] | None) -> Scores | None:
    if numbers is None:
        return None
    share, recall, loss = (_known(value) for value in numbers[:3])
    if len(numbers) == 3:
        return Scores(share, recall, loss)
    return TargetScores(share, recall, loss, {name: _known(value) for name, value in numbers[3].items()})


def _known(value: float | None) -> float:
    return math.nan if value is None else value
