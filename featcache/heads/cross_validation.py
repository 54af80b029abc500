"""Cross-validation: every row of train and val is predicted by a head that has not seen it, nor its subject or clip.

The heads of a grid are trained on all folds but one, side by side, as `fit_head` trains them; the rows of that fold are
predicted by them. What is chosen among the grid's settings is chosen by the scores of all rows together, as
scikit-learn's GridSearchCV does it. No head is kept.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Unpack

import numpy as np
import numpy.typing as npt

from featcache.dataset import DatasetRequest
from featcache.errors import UsageError
from featcache.features import Features
from featcache.heads.config import HeadConfig
from featcache.heads.default_grid import fill_in_defaults
from featcache.heads.fit_linear import COMPILING
from featcache.heads.given_settings import has_views, head_section
from featcache.heads.grid import HeadOptions, head_configs
from featcache.heads.kept_targets import KeptTargets
from featcache.heads.linear import BLOCK_ROWS, Scores, merit
from featcache.heads.modules import TrainedHead
from featcache.heads.row_folds import Folds, divide_rows, unit_of_rows
from featcache.heads.splits import read_splits
from featcache.heads.target_scores import answers_of, choose_kept, score_outputs
from featcache.heads.target_settings import fit_to_targets
from featcache.heads.tokens import count_tokens
from featcache.heads.training import refuse_bfloat16
from featcache.heads.training_device import choose_training_device
from featcache.listing import RowTargets
from featcache.metrics import accuracy, confusion_matrix, macro_recall, mean_loss, softmax
from featcache.recipe import LABELS, TEMPORAL, HeadKeywords, StoreOptions, pick_options

FEWEST_FOLDS, MOST_FOLDS = 2, 100


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class OutOfFold:
    """What heads predict on rows that they have not seen."""

    rows: Features  # of train and, where there is one, val
    splits: tuple[str, ...]  # that the rows are of
    left_out: tuple[str, ...]  # splits of the cache that they are not of: test
    by: str  # what stands in one fold alone: "subject", "clip" or "image"
    fold: Folds
    configs: tuple[HeadConfig, ...]
    scores: tuple[Scores, ...]  # of each config, over all rows
    best: int  # the config that was chosen
    select: str
    outputs: npt.NDArray[np.float32]  # (rows, classes), the logits or numbers of the chosen config's heads
    kept: KeptTargets  # of several labels or numbers: the thresholds that are best over all rows, and the deviations
    seconds: float
    notes: tuple[str, ...]

    @property
    def folds(self) -> int:
        """How many there are."""
        return int(self.fold.max()) + 1

    @property
    def probabilities(self) -> npt.NDArray[np.float32]:
        """(rows, classes) of rows with one class each."""
        return softmax(self.outputs)

    @property
    def predicted(self) -> npt.NDArray[np.int64]:
        """(rows,) the most probable class of each row."""
        predicted: npt.NDArray[np.int64] = self.outputs.argmax(axis=1)
        return predicted

    @property
    def answers(self) -> npt.NDArray[np.float64]:
        """(rows, outputs) the probability of each label, or the numbers."""
        return answers_of(self.configs[self.best].targets, self.outputs.astype(np.float64))


def predict_out_of_fold(
    folds: int,
    lr: float | Sequence[float] | None = None,
    *,
    grid: str | None = None,
    device: str = "auto",
    progress: Callable[[str, int, int], None] = lambda *_: None,
    **settings: Unpack[HeadOptions],
) -> OutOfFold:
    """Train on all folds but one, predict that one, and choose among the settings by the scores of all rows.

    Args:
        folds: how many, 2 to 100.
        lr: as of `fit_head`.
        grid: as of `fit_head`.
        device: as of `fit_head`.
        progress: as of `fit_head`; the epochs are those of all folds.
        **settings: as of `fit_head`; the first seed also divides the rows.

    Returns:
        The rows with their folds, and the probabilities that heads of the chosen settings give them.

    Raises:
        UsageError: the number of folds, a setting or the recipe; views; or patience, which would need rows of its own.
        CacheError: the train split is not in the cache, or a file of it is damaged.
        DataError: fewer subjects, clips or images than folds; a single class.
        MachineError: no such device, or memory is full.
    """
    if not FEWEST_FOLDS <= folds <= MOST_FOLDS:
        error = UsageError(f"--cross-validate: found {folds}, expected {FEWEST_FOLDS} to {MOST_FOLDS} folds")
        raise error.correct("--cross-validate", "5")
    options, flags = pick_options(settings, StoreOptions), pick_options(settings, HeadKeywords)
    request = DatasetRequest(**options)
    given = [name for name, value in flags.items() if value is not None]
    kind = request.recipe.data.target_kind
    section = fit_to_targets(head_section(request.recipe, grid, {"lr": lr, **flags}), kind, given)
    # What is wrong with the settings is said before anything is read.
    refuse_bfloat16(head_configs(section), device, exact=section.exact)
    if section.head == TEMPORAL:
        raise UsageError(
            f"--cross-validate predicts images one by one, and --head {TEMPORAL} takes the frames of a clip together: "
            f"leave out one of the two"
        ).correct("--cross-validate", None)
    if has_views(section):
        raise UsageError(
            "--cross-validate trains on plain images: leave out --views, or take it out of the recipe"
        ).correct("--views", None)
    progress("reading", 0, section.epochs)
    splits = read_splits(request, any_targets=True)
    both = [splits.in_memory, *([] if splits.val is None else [splits.val])]
    by, rows = unit_of_rows(both), concatenate_rows(both)
    section = count_tokens(section, splits.source)
    section, experiment = fill_in_defaults(section, len(rows.y) * (folds - 1) // folds, has_val=True)
    configs = head_configs(section)
    _refuse_patience(configs)
    fold = divide_rows(rows, by, folds, configs[0].seed)
    device = choose_training_device(device, exact=section.exact)
    begun = time.monotonic()
    outputs = _predict_folds(rows, fold, configs, device, progress)
    scored = [score_unseen(config, of_config, rows) for config, of_config in zip(configs, outputs, strict=True)]
    scores = [of_config for of_config, _ in scored]
    best = max(range(len(configs)), key=lambda index: merit(scores[index], section.select))
    if not math.isfinite(scores[best].loss):
        raise UsageError(f"--cross-validate: every one of {len(configs)} heads diverged in a fold; lower --lr")
    return OutOfFold(
        rows=rows,
        splits=tuple(split.split for split in both),
        left_out=tuple(key[2] for key in request.keys_of(splits.source) if key[2] not in {s.split for s in both}),
        by=by,
        fold=fold,
        configs=tuple(configs),
        scores=tuple(scores),
        best=best,
        select=section.select,
        outputs=outputs[best],
        kept=scored[best][1],
        seconds=time.monotonic() - begun,
        notes=(*([experiment] if experiment else []), *splits.notes),
    )


def concatenate_rows(splits: Sequence[Features]) -> Features:
    """Return the rows of several splits as those of one, whose name is theirs: "train and val".

    Args:
        splits: of one data set and one store, in their order.
    """
    first = splits[0]
    digests = [split.digests for split in splits if split.digests is not None]
    return replace(
        first,
        x=np.concatenate([split.x for split in splits]),
        y=np.concatenate([split.y for split in splits]),
        targets=_concatenate_targets(splits),
        paths=tuple(path for split in splits for path in split.paths),
        clips=tuple(clip for split in splits for clip in split.clips),
        subjects=tuple(subject for split in splits for subject in split.subjects),
        digests=np.concatenate(digests) if len(digests) == len(splits) else None,
        split=" and ".join(split.split for split in splits),
        failed=sum(split.failed for split in splits),
    )


def _concatenate_targets(splits: Sequence[Features]) -> RowTargets | None:
    targets = [split.targets for split in splits if split.targets is not None]
    return RowTargets(targets[0].kind, np.concatenate([part.values for part in targets])) if targets else None


def take_rows(rows: Features, chosen: npt.NDArray[np.bool_]) -> Features:
    """Return some of the rows, in their order.

    Args:
        rows: all of them.
        chosen: (rows,) which ones.
    """
    kept = np.flatnonzero(chosen).tolist()
    return replace(
        rows,
        x=rows.x[chosen],
        y=rows.y[chosen],
        targets=None if rows.targets is None else rows.targets.take(np.flatnonzero(chosen)),
        paths=tuple(rows.paths[row] for row in kept),
        clips=tuple(rows.clips[row] for row in kept),
        subjects=tuple(rows.subjects[row] for row in kept),
        digests=None if rows.digests is None else rows.digests[chosen],
        failed=0,
    )


def _predict_folds(
    rows: Features,
    fold: Folds,
    configs: Sequence[HeadConfig],
    device: str,
    progress: Callable[[str, int, int], None],
) -> list[npt.NDArray[np.float32]]:
    """Return the logits of every row by each config's head that was trained without its fold, (rows, classes) each."""
    from featcache.heads.training import train_heads  # torch is imported where it is needed

    logits = [np.empty((len(rows.y), len(rows.classes)), dtype=np.float32) for _ in configs]
    folds = int(fold.max()) + 1
    for number in range(folds):
        held_out = fold == number

        def show(done: int, epochs: int, number: int = number) -> None:
            progress("training", number * epochs + done, folds * epochs)

        heads = train_heads(
            take_rows(rows, ~held_out), None, configs, device=device, progress=show,
            on_compile=lambda: progress(COMPILING, 0, 1),
        )  # fmt: skip
        for of_config, head in zip(logits, heads, strict=True):
            of_config[held_out] = head_logits(head, rows.x[held_out])
    return logits


def head_logits(head: TrainedHead, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return a head's logits, (rows, classes), computed some rows at a time; nan where it diverged.

    Args:
        head: one that was trained just now.
        x: (rows, width) as the head takes them.
    """
    blocks = [head.logits(x[start : start + BLOCK_ROWS]) for start in range(0, len(x), BLOCK_ROWS)]
    logits = np.concatenate(blocks) if blocks else np.empty((0, head.classes), dtype=np.float32)
    return np.full_like(logits, np.nan) if head.diverged else logits


def score_unseen(
    config: HeadConfig, outputs: npt.NDArray[np.float32], rows: Features
) -> tuple[Scores, KeptTargets]:  # fmt: skip
    """Return the scores of what heads of one config answer on all rows, and what their labels or numbers need.

    Args:
        config: of the heads.
        outputs: (rows, classes) of the heads.
        rows: what they were predicted on.
    """
    if rows.targets is None:
        return score_logits(outputs, rows.y, len(rows.classes)), KeptTargets()
    truth, z = rows.targets.values, outputs.astype(np.float64)
    deviation = () if config.targets == LABELS else tuple(truth.std(axis=0).tolist())
    kept = choose_kept(config, KeptTargets(deviation=deviation), z, truth)
    return score_outputs(config, kept, z, truth), kept


def score_logits(logits: npt.NDArray[np.float32], y: npt.NDArray[np.int64], classes: int) -> Scores:
    """Return the scores of logits; the loss is nan where the head diverged.

    Args:
        logits: (rows, classes).
        y: (rows,) the labels.
        classes: how many there are.
    """
    confusion = confusion_matrix(y, logits.argmax(axis=1), classes)
    return Scores(accuracy(confusion), macro_recall(confusion), mean_loss(softmax(logits.astype(np.float64)), y))


def _refuse_patience(configs: Sequence[HeadConfig]) -> None:
    if any(config.patience is not None for config in configs):
        raise UsageError(
            "--cross-validate trains every epoch: patience would choose one by the rows that are to be predicted "
            "unseen. Leave out --patience, or take it out of the recipe."
        )
