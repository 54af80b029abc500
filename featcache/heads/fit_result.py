"""What fit-head trained: the heads, the best of them, and its check."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from featcache.heads.saved import Handles, SavedHead, check_to_json, scores_to_json

if TYPE_CHECKING:
    from featcache.heads.optimum import Check


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """The heads that one fit-head trained, the best of them, and its check against the optimum."""

    heads: tuple[SavedHead, ...]  # in the order of the grid
    best: SavedHead | None  # None where every head diverged
    select: str  # macro_recall, accuracy or loss
    selected_by: str  # "" where nothing chose
    check: "Check | None"  # of the best head; None where it was left out
    train_rows: int
    val_rows: int | None
    seconds: float  # of the training, val passes included
    notes: tuple[str, ...]
    handles: Handles  # the short names of all models of the data set
    temperatures: Mapping[str, float | None]  # by the head's name; None where it has none
    linear: str = ""  # the best linear head on the same val, beside a head that is a torch module; "" where none is

    def to_json(self) -> dict[str, Any]:
        """Return the document of `featcache fit-head --json`."""
        return {
            "heads": [
                {
                    "name": saved.name,
                    "number": self.handles.numbers[saved.name],
                    "given_name": self.handles.given_name(saved.name) or None,
                    "lr": saved.head.config.lr,
                    "steps": saved.head.steps,
                    "epochs": saved.head.config.epochs,
                    "train": scores_to_json(saved.head.train),
                    "val": scores_to_json(saved.head.val),
                    "diverged": saved.head.diverged,
                    "best_epoch": saved.head.best_epoch,
                    "settings": saved.head.config.changed,
                    "folder": str(saved.folder),
                    "temperature": self.temperatures[saved.name],
                }
                for saved in self.heads
            ],
            "check": None if self.check is None else check_to_json(self.check),
            "best": None if self.best is None else self.best.name,
            "selected_by": self.selected_by or None,
            "seconds": round(self.seconds, 3),
            "notes": list(self.notes),
        }
