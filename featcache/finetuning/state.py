"""How far a training has come: what is written down with its tensors, so that it goes on as if it had not stopped."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from featcache.heads import EpochRow, Scores
from featcache.metrics import accuracy, macro_recall


@dataclass(slots=True, eq=False)
class RunningScores:
    """The scores on the training images that an epoch has seen so far, of each step's own logits."""

    confusion: npt.NDArray[np.int64]  # (classes, classes)
    loss: float = 0.0  # nats, summed

    def scores(self) -> Scores:
        """Return the scores of what was seen; nan where that is nothing."""
        rows = int(self.confusion.sum())
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
            running = RunningScores(np.array(document["confusion"], dtype=np.int64), float(document["loss"]))
            history = [
                EpochRow(epoch, _scores(train) or _UNKNOWN, _scores(val)) for epoch, train, val in document["history"]
            ]
            epoch, batch, step = (int(document[name]) for name in ("epoch", "batch", "step"))
            return cls(running, epoch, batch, step, history, dict(document.get("scaler", {})))
        except (KeyError, TypeError) as error:
            raise ValueError(f"it is no state of a training: {error!r}") from None


_UNKNOWN = Scores(math.nan, math.nan, math.nan)


def _numbers(scores: Scores | None) -> list[float | None] | None:
    """Return the numbers of scores; None stands for what is not finite."""
    if scores is None:
        return None
    values = (scores.accuracy, scores.macro_recall, scores.loss)
    return [value if math.isfinite(value) else None for value in values]


def _scores(numbers: list[float | None] | None) -> Scores | None:
    return None if numbers is None else Scores(*(math.nan if value is None else value for value in numbers))
