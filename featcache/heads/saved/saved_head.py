"""SavedHead: a head of fit-head with what it came from; what a store can be asked of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from featcache.errors import CacheError
from featcache.features import Features
from featcache.heads import (
    BLOCK_ROWS,
    KeptTargets,
    OutputLayer,
    Scores,
    answers_of,
    compute_outputs,
    rows_together,
    score_outputs,
    truth_of,
)
from featcache.heads.classifiers import ModelOutput, SearchTrial
from featcache.heads.modules import TrainedHead, group_frames
from featcache.heads.saved.documents import settings_in_words
from featcache.heads.saved.model import refuse_other_trunk
from featcache.machine import run_in_threads
from featcache.metrics import softmax
from featcache.recipe import LABEL
from featcache.store import FeatureStore


@dataclass(frozen=True, slots=True, eq=False)
class SavedHead:
    """A head of fit-head with what it came from; a `SavedModel`."""

    name: str
    folder: Path
    head: TrainedHead  # its history is in history.csv
    classes: tuple[str, ...]
    sources: Mapping[str, Mapping[str, str]]  # "train" and, where it was used, "val": see Features.source
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """What `--head` calls it: "linear", "mlp"."""
        return self.head.config.head

    @property
    def command(self) -> str:
        """The command that trains such a head."""
        return "finetune" if self.head.finetuned else "fit-head"

    @property
    def settings(self) -> Mapping[str, Any]:
        """The learning rate, and the settings that differ from the defaults."""
        return {**self.head.finetuned, "lr": self.head.config.lr, **self.head.config.changed}

    @property
    def trials(self) -> tuple[SearchTrial, ...]:
        """None: a head is trained with one set of settings."""
        return ()

    @property
    def train(self) -> Scores:
        """The scores on train."""
        return self.head.train

    @property
    def val(self) -> Scores | None:
        """The scores on val; None where there was no val split."""
        return self.head.val

    @property
    def predictions(self) -> Mapping[str, Mapping[str, str]]:
        """None: a head predicts anew faster than its predictions could be read."""
        return {}

    @property
    def has_diverged(self) -> bool:
        """Whether its weights are not finite, or its loss is beyond any sense."""
        return self.head.diverged

    @property
    def gives_probabilities(self) -> bool:
        """Of classes, always: the softmax of the logits; labels and numbers have `predict_targets` instead."""
        return self.head.config.targets == LABEL

    @property
    def target_kind(self) -> str:
        """What it predicts of a row: LABEL, LABELS or VALUE."""
        return self.head.config.targets

    @property
    def kept_targets(self) -> KeptTargets:
        """The thresholds of its labels, or the deviations of its numbers; empty of classes."""
        return self.head.targets

    @property
    def layer(self) -> TrainedHead:
        """The head itself."""
        return self.head

    @property
    def output_layer(self) -> OutputLayer | None:
        """A linear head as the last layer of a network; None where it is more than that."""
        return self.head.output_layer

    def facts(self) -> list[tuple[str, str]]:
        """Return all settings in one text, and the steps of the training."""
        # Of classes alone is a product in bfloat16 to be had, and a fine-tuning has its own precision.
        left_out = {"matmul_precision"} if self.head.finetuned or self.head.config.targets != LABEL else set()
        config = self.head.config.applicable
        settings = ", ".join(settings_in_words({name: config[name] for name in config if name not in left_out}))
        tuned = ", ".join(settings_in_words(self.head.finetuned))
        return [("fine-tuned", tuned)] * bool(tuned) + [("head", settings), ("steps", f"{self.head.steps:,}")]

    def predict(self, features: Features) -> ModelOutput:
        """Return labels and probabilities (float32) of a split, computed some rows at a time.

        Of a head over clips, each image has those of its clip; one that belongs to none is a clip of one frame.

        Args:
            features: The split, as `featcache.load` gives it; or of a head over clips with a row for each clip.

        Raises:
            CacheError: features of another trunk.
        """
        refuse_other_trunk(self, features.source.get("trunk", "unknown"))
        probabilities = np.empty((len(features.y), len(self.classes)), dtype=np.float32)
        predicted = np.empty(len(features.y), dtype=np.int64)
        if self.head.config.is_over_clips and features.x.shape[1] == self.head.width:
            clips = group_frames(features.x, features.clips, self.head.config.frames)
            logits = self.head.logits(clips.x)[clips.clip_of]
            return ModelOutput(logits.argmax(axis=1), softmax(logits))
        together = rows_together(self.head)
        for start in range(0, len(features.y), together):
            logits = self.head.logits(features.x[start : start + together])

            def convert(at: int, start: int = start, logits: npt.NDArray[np.floating] = logits) -> None:
                block = logits[at : at + BLOCK_ROWS]
                rows = slice(start + at, start + at + len(block))
                predicted[rows], probabilities[rows] = block.argmax(axis=1), softmax(block)

            run_in_threads(convert, range(0, len(logits), BLOCK_ROWS))
        return ModelOutput(predicted, probabilities)

    def predict_targets(
        self, x: npt.NDArray[np.float32], clips: Sequence[str] = (), *, as_answers: bool = True
    ) -> npt.NDArray[np.float64]:  # fmt: skip
        """Return the probability of each label, or the numbers, of rows, (rows, outputs) float64.

        Args:
            x: (rows, dim) float32, as the trunk gave them.
            clips: (rows,) the clip of each image, for a head over clips; () where each is one of its own.
            as_answers: whether probabilities are wanted, and not the outputs that they are made of.
        """
        head = self.head
        clip_of: npt.NDArray[np.int64] | slice = slice(None)
        if head.config.is_over_clips:
            grouped = group_frames(x, clips or [""] * len(x), head.config.frames)
            x, clip_of = grouped.x, grouped.clip_of
        outputs = compute_outputs(head.logits, x, head.classes)[clip_of]
        return answers_of(self.target_kind, outputs) if as_answers else outputs

    def score_targets(self, features: Features) -> Scores:
        """Return the scores on a split with several labels or numbers a row; of a head over clips, by image.

        Args:
            features: The split.
        """
        outputs = self.predict_targets(features.x, features.clips, as_answers=False)
        return score_outputs(self.head.config, self.head.targets, outputs, truth_of(features))

    def predict_probabilities(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return the softmax of the logits of embeddings, (rows, classes) float64; over clips, each is one of its own.

        Args:
            x: (rows, dim) float32, as the trunk gave them.

        Raises:
            ValueError: x has another width than the weights.
        """
        if self.head.config.is_over_clips:
            x = group_frames(x, [""] * len(x), self.head.config.frames).x
        return softmax(self.head.logits(x).astype(np.float64))

    def refuse_unusable(self, store: FeatureStore) -> None:
        """Raise a CacheError unless the head can predict on embeddings of a store.

        Args:
            store: Whose embeddings it is to predict on; an empty one fits.

        Raises:
            CacheError: it has diverged, or takes embeddings of another width.
        """
        if self.has_diverged:
            raise CacheError(f"head {self.name} diverged: its weights are not finite, and its predictions mean nothing")
        width = self.head.width
        if store.dim not in (None, width):
            raise CacheError(f"head {self.name} takes embeddings of {width}, store {store.name} holds {store.dim}")
