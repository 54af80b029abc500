"""A trained head that is a torch module: its tensors, its scores, and what it answers. torch waits until it answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from featcache.heads import DIVERGED_LOSS, NO_TARGETS, EpochRow, HeadConfig, KeptTargets, LinearHead, Scores, unit_rows

if TYPE_CHECKING:
    from torch import nn

MEAN, INVERSE_STD = "input.mean", "input.inverse_std"  # tensors of a head that standardizes
MODULE = "module."  # what the names of the module's own tensors begin with


@dataclass(frozen=True, slots=True, eq=False)
class ModuleHead:
    """A torch module on the embeddings, and how it came to be.

    Attributes:
        config: its settings.
        width: of an embedding.
        classes: how many outputs it has.
        tensors: "module." and the names of the module's state dict; of a head that standardizes its rows also
            `input.mean`, (2, width) float32 whose sum is the mean, and `input.inverse_std`, (width,) float32.
        steps: that it was trained for.
        history: its epochs.
        train: the scores of the final weights.
        val: the same on val; None where there was no val split.
        best_epoch: whose weights these are, where a head with patience kept its best.
        widths: of the parts of its features, where several layers or trunks stand side by side.
        targets: what it keeps of several labels or numbers.
    """

    config: HeadConfig
    width: int
    classes: int
    tensors: Mapping[str, npt.NDArray[Any]]
    steps: int
    history: tuple[EpochRow, ...]
    train: Scores
    val: Scores | None
    best_epoch: int | None = None
    widths: tuple[int, ...] = ()
    targets: KeptTargets = NO_TARGETS

    def __repr__(self) -> str:
        return f"<ModuleHead {self.config.name}: {self.width} -> {self.classes}, {self.steps:,} steps>"

    @property
    def diverged(self) -> bool:
        """Whether a weight is no longer a finite number, or the loss on train is beyond any sense."""
        finite = all(np.isfinite(tensor).all() for tensor in self.tensors.values())
        return not (finite and self.train.loss < DIVERGED_LOSS)

    @property
    def finetuned(self) -> Mapping[str, Any]:
        """Nothing: the trunk under a module is frozen."""
        return {}

    @property
    def output_layer(self) -> None:
        """None: it is more than a linear layer; see `module`."""
        return

    def check_tensors(self) -> None:
        """Raise a ValueError unless the tensors are those that the settings say.

        Raises:
            CacheError: a tensor is missing, one too many, or of another type or shape.
        """
        from featcache.heads.modules.loading import check_tensors

        check_tensors(self)

    def module(self) -> "nn.Module":
        """Return the head as a torch module from embeddings (rows, width) to logits (rows, classes), for inference.

        Embeddings are standardized in the module's first layer, where the head standardizes them; they are not scaled
        to length 1.

        Raises:
            ValueError: the tensors are not those of such a head.
        """
        from featcache.heads.modules.loading import load_module

        return load_module(self)

    def logits(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the logits of embeddings, (rows, classes) float32; nan where the head diverged.

        Args:
            x: (rows, width) float32, as the trunk gave them; of a head over clips (clips, frames x width + 1), as
                `group_frames` makes them.

        Raises:
            ValueError: x has another shape.
        """
        expected = self.config.row_width(self.width)
        if x.ndim != 2 or x.shape[1] != expected:
            raise ValueError(f"x has shape {x.shape}; this head takes (rows, {expected})")
        from featcache.heads.modules.loading import compute_logits

        return compute_logits(self, unit_rows(x, self.widths) if self.config.normalize == "l2" else x)


TrainedHead: TypeAlias = LinearHead | ModuleHead
