"""What a head predicts for images: a class, several labels, or numbers."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from featcache.heads.saved import finite_or_none
from featcache.listing import readable
from featcache.recipe import LABEL, LABELS, VALUE

TOP = 5  # labels that are shown of an image


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """What a head predicts for some images, in the order in which they were named."""

    head: str
    trunk: str  # architecture, weights and precision, in words
    classes: tuple[str, ...]
    paths: tuple[str, ...]  # (rows,), as they were named
    probabilities: npt.NDArray[np.float64]  # (rows, classes), of VALUE the numbers; nan where an image cannot be used
    failed: tuple[str, ...]  # (rows,), why it could not; "" where it could
    embedded: int  # images that went through the trunk; of the others the store held the embedding
    seconds: float
    notes: tuple[str, ...] = ()
    handle: str = ""  # the head as `compare` lists it: "#3 lr0.1-1a2b3c4d"
    chosen: str = ""  # which head "best" or "latest" stood for, and why, in a sentence
    temperature: float | None = None  # by which the probabilities were calibrated; None where the head has none
    is_exportable: bool = False  # whether `export_model` writes trunk and head as one network, as a .pt
    targets: str = LABEL  # what is predicted of an image: LABEL, LABELS (several) or VALUE (numbers)
    thresholds: tuple[float, ...] = ()  # of LABELS: from which probability on each is predicted

    def labels(self, row: int) -> list[str]:
        """Return the labels that are predicted for an image, of LABELS: those at their thresholds or above.

        Args:
            row: the image's place in `paths`, from 0.
        """
        if self.failed[row]:
            return []
        columns = zip(self.classes, self.probabilities[row].tolist(), self.thresholds, strict=True)
        return [name for name, probability, threshold in columns if probability >= threshold]

    def top(self, row: int, count: int = TOP) -> list[tuple[str, float]]:
        """Return the most probable labels of an image, each with its probability, the highest first.

        There are none where the image could not be used. Of VALUE they are the numbers, by name, in their order.

        Args:
            row: the image's place in `paths`, from 0.
            count: how many labels at most.
        """
        if self.failed[row]:
            return []
        if self.targets == VALUE:
            return list(zip(self.classes, self.probabilities[row].tolist(), strict=True))
        order = np.argsort(-self.probabilities[row], kind="stable")[:count]
        return [(self.classes[label], float(self.probabilities[row, label])) for label in order]

    def to_json(self, count: int = TOP) -> dict[str, Any]:
        """Return the document of `featcache predict --json`.

        Args:
            count: how many labels of each image at most, the most probable ones.
        """
        return {
            "head": self.head,
            "trunk": self.trunk,
            "classes": list(self.classes),
            "images": [
                {
                    "path": readable(path),
                    **self._answer_json(row, count),
                    "failed": self.failed[row] or None,
                }
                for row, path in enumerate(self.paths)
            ],
            "rows": len(self.paths),
            "embedded": self.embedded,
            "failed": sum(map(bool, self.failed)),
            "seconds": round(self.seconds, 3),
            "notes": list(self.notes),
            "chosen": self.chosen or None,
            "temperature": self.temperature,
            **({} if self.targets == LABEL else {"targets": self.targets}),
            **({"thresholds": list(self.thresholds)} if self.targets == LABELS else {}),
        }

    def _answer_json(self, row: int, count: int) -> dict[str, Any]:
        """Return what is predicted for an image, by the key that such targets have."""
        if self.targets == VALUE:
            return {"values": {name: finite_or_none(value) for name, value in self.top(row)}}
        top = [{"class": name, "probability": finite_or_none(share)} for name, share in self.top(row, count)]
        return {"top": top} if self.targets == LABEL else {"labels": self.labels(row), "top": top}
