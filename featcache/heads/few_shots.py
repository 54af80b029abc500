"""How good heads are that are trained on a few labels of each class, or few images: `fit-head --shots`.

Rows with several labels, or with numbers, are drawn as if all were of one class: so many images.
For each number of labels several draws of them are made (`shots`), the same whatever the head. On each draw all heads
of the grid are trained side by side, by the very training of `fit_head`. Which settings are best is decided once for
each number of labels, by the mean of their scores on val over the draws. No head is kept.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Unpack

import numpy as np
import numpy.typing as npt

from featcache.dataset import DatasetRequest
from featcache.errors import CacheError, UsageError
from featcache.features import Features, read_features
from featcache.heads.config import HeadConfig
from featcache.heads.cross_validation import head_logits, score_unseen, take_rows
from featcache.heads.default_grid import fill_in_defaults
from featcache.heads.fit_linear import COMPILING
from featcache.heads.given_settings import has_views, head_section
from featcache.heads.grid import HeadOptions, head_configs
from featcache.heads.linear import Scores, merit
from featcache.heads.modules import TrainedHead, features_by_clip
from featcache.heads.row_folds import unit_of_rows
from featcache.heads.shots import parse_shots, rank_labels, refuse_scarce, refuse_tries
from featcache.heads.splits import Splits, notes_of_splits, read_splits, refuse_unfit, splits_by_clip
from featcache.heads.target_scores import answers_of
from featcache.heads.target_settings import fit_to_targets
from featcache.heads.tokens import count_tokens
from featcache.heads.training import refuse_bfloat16
from featcache.heads.training_device import choose_training_device
from featcache.listing import find_leaks
from featcache.recipe import TEMPORAL, HeadKeywords, HeadSection, StoreOptions, pick_options

_Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ShotLevel:
    """What heads answer that were trained on so many labels of each class."""

    shots: int | None  # labels of each class; of several labels or numbers, images; None: all that there are
    labels: int  # all of them
    configs: tuple[HeadConfig, ...]
    best: int  # the config that was chosen
    predicted: npt.NDArray[np.int64]  # (draws, rows) of the scored split, by the chosen config's heads
    answers: npt.NDArray[np.float64] | None = None  # (draws, rows, outputs) of labels their probabilities, or numbers

    @property
    def config(self) -> HeadConfig:
        """The settings that were chosen."""
        return self.configs[self.best]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FewShots:
    """What heads answer that were trained on few labels, for several numbers of labels."""

    levels: tuple[ShotLevel, ...]
    tries: int
    by: str  # what the labels of a class are spread over: "subject", "clip" or "image"
    train_rows: int
    classes_drawn: int  # those that have labels in train; of several labels or numbers, all of them
    val_rows: int | None  # labels that chose among settings; None where nothing was chosen
    select: str
    scored: Features  # the split that is answered
    seconds: float
    notes: tuple[str, ...]


def predict_few_shots(
    shots: str | Sequence[int | str],
    tries: int,
    lr: float | Sequence[float] | None = None,
    *,
    grid: str | None = None,
    device: str = "auto",
    progress: _Progress = lambda *_: None,
    **settings: Unpack[HeadOptions],
) -> FewShots:
    """Train on a few labels of each class, several draws of them, and answer test, or val where there is no test.

    Args:
        shots: labels of each class: "1,2,4,all", or a list of numbers in which "all" may stand.
        tries: how many draws of each number of labels; of all labels there is one.
        lr: as of `fit_head`.
        grid: as of `fit_head`.
        device: as of `fit_head`.
        progress: gets the stage, what is done and what is to do, in epochs of all draws.
        **settings: as of `fit_head`; the first seed also draws the labels.

    Returns:
        What the heads of each number of labels answer, and which settings were chosen.

    Raises:
        UsageError: a number of labels or draws, a setting or the recipe; or views.
        CacheError: train is not in the cache, or neither test nor val is; a choice and no val; or people of train stand
            in the scored split.
        DataError: a class has fewer labels than are to be drawn; a single class.
        MachineError: no such device, or memory is full.
    """
    numbers = parse_shots(shots)
    refuse_tries(tries)
    options, flags = pick_options(settings, StoreOptions), pick_options(settings, HeadKeywords)
    request = DatasetRequest(**options)
    given = [name for name, value in flags.items() if value is not None]
    kind = request.recipe.data.target_kind
    section = fit_to_targets(head_section(request.recipe, grid, {"lr": lr, **flags}), kind, given)
    # What is wrong with the settings is said before anything is read.
    refuse_bfloat16(head_configs(section), device, exact=section.exact)
    if has_views(section):
        raise UsageError("--shots trains on plain images: leave out --views, or take it out of the recipe").correct(
            "--views", None
        )
    progress("reading", 0, section.epochs)
    splits = read_splits(request, any_targets=True)
    scored = _read_scored(request, splits)
    if section.head == TEMPORAL:
        splits = splits_by_clip(splits, section.frames)
        scored = features_by_clip(scored, section.frames)
    section = count_tokens(section, splits.source)
    train, val = splits.in_memory, splits.val
    refuse_scarce(train, numbers)
    begun, device = time.monotonic(), choose_training_device(device, exact=section.exact)
    draws = _LabelDraws(splits, section, unit_of_rows([train]), tries, device, progress)
    levels = tuple(draws.train_level(number, scored, _draws_before(numbers, tries, number), draws_of(numbers, tries))
                   for number in numbers)  # fmt: skip
    is_choice = any(len(level.configs) > 1 for level in levels)
    return FewShots(
        levels=levels,
        tries=tries,
        by=draws.by,
        train_rows=len(train.y),
        classes_drawn=len(np.unique(train.y)) if train.targets is None else len(train.classes),
        val_rows=len(val.y) if val is not None and is_choice else None,
        select=section.select,
        scored=scored,
        seconds=time.monotonic() - begun,
        notes=(*splits.notes, *notes_of_splits(train, val), *map(str, find_leaks([train, scored]))),
    )


def draws_of(numbers: Sequence[int | None], tries: int) -> int:
    """Return how many draws there are of all numbers of labels; of all labels there is one.

    Args:
        numbers: as `parse_shots` returns them.
        tries: draws of each.
    """
    return sum(1 if number is None else tries for number in numbers)


def _draws_before(numbers: Sequence[int | None], tries: int, number: int | None) -> int:
    return draws_of(numbers[: numbers.index(number)], tries)


def _read_scored(request: DatasetRequest, splits: Splits) -> Features:
    """Return the split that is answered: test, or val where the cache has no test.

    Raises:
        CacheError: it has neither; or the split shows people of train.
    """
    train, test = splits.in_memory, request.key_of(splits.source, "test")
    scored = read_features(splits.source, test, any_targets=True) if test in splits.source.listings else splits.val
    if scored is None:
        raise CacheError(
            f"{train.source['data_set']}: --shots scores heads on test, or on val, and the cache has neither; "
            f"{request.advise_extract('test')}"
        )
    refuse_unfit(train, scored)
    if leaks := [leak for leak in find_leaks([train, scored]) if leak.subjects]:
        raise CacheError(f"{train.source['data_set']}: {leaks[0]}; --shots is for splits that share nobody")
    return scored


@dataclass(frozen=True, slots=True, eq=False)
class _LabelDraws:
    """The draws of all numbers of labels, and what heads learn from them."""

    splits: Splits
    section: HeadSection
    by: str
    tries: int
    device: str
    progress: _Progress

    def train_level(self, number: int | None, scored: Features, before: int, draws: int) -> ShotLevel:
        """Return the answers of heads that were trained on so many labels of each class.

        Args:
            number: of labels of each class; None: all.
            scored: the split that is answered.
            before: draws of smaller numbers.
            draws: of all numbers.
        """
        train, val = self.splits.in_memory, self.splits.val
        tries = 1 if number is None else self.tries
        section = self.section
        chosen = [self._choose(number, draw, section) for draw in range(tries)]
        section, _ = fill_in_defaults(section, int(chosen[0].sum()), has_val=val is not None)
        configs = head_configs(section)
        self._refuse_choice(configs)
        trained, on_val = [], []
        for draw, rows in enumerate(chosen):
            heads = self._train(take_rows(train, rows), configs, before + draw, draws)
            trained.append(heads)
            if val is not None and len(configs) > 1:
                of_heads = zip(configs, heads, strict=True)
                on_val.append([score_unseen(config, head_logits(head, val.x), val)[0] for config, head in of_heads])
        best = choose_config(on_val, section.select) if on_val else 0
        outputs = [head_logits(heads[best], scored.x) for heads in trained]
        return ShotLevel(
            shots=number,
            labels=int(chosen[0].sum()),
            configs=tuple(configs),
            best=best,
            predicted=np.stack([of_draw.argmax(axis=1) for of_draw in outputs]),
            answers=None if scored.targets is None else _answers(configs[best], outputs),
        )

    def _choose(self, number: int | None, draw: int, section: HeadSection) -> npt.NDArray[np.bool_]:
        """Return which rows of train are the labels of a draw, (rows,)."""
        train = self.splits.in_memory
        if number is None:
            return np.ones(len(train.y), dtype=bool)
        return rank_labels(train, self.by, section.seed[0], draw) < number

    def _train(self, rows: Features, configs: Sequence[HeadConfig], before: int, draws: int) -> list[TrainedHead]:
        """Return the heads of all configs, trained on some rows."""
        from featcache.heads.training import train_heads  # torch is imported where it is needed

        needs_val = any(config.patience or config.schedule == "plateau" for config in configs)

        def show(done: int, epochs: int) -> None:
            self.progress("training", before * epochs + done, draws * epochs)

        return train_heads(
            rows, self.splits.val if needs_val else None, configs, select=self.section.select, device=self.device,
            progress=show, on_compile=partial(self.progress, COMPILING, 0, 1),
        )  # fmt: skip

    def _refuse_choice(self, configs: Sequence[HeadConfig]) -> None:
        """Raise a CacheError where there is something to choose, and no val."""
        if self.splits.val is None and (len(configs) > 1 or configs[0].patience):
            chooser = f"a choice among {len(configs)} heads" if len(configs) > 1 else "patience"
            raise CacheError(
                f"{self.splits.in_memory.source['data_set']}: {chooser} needs a val split, and the cache has none; "
                f"train a single head without --patience"
            )


def _answers(config: HeadConfig, outputs: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float64]:
    """Return the probabilities of labels, or the numbers, of each draw, (draws, rows, outputs).

    Raises:
        UsageError: a head diverged.
    """
    stacked = np.stack(outputs).astype(np.float64)
    if not np.isfinite(stacked).all():
        raise UsageError(f"--shots: a head {config.name} diverged in a draw; lower --lr")
    return answers_of(config.targets, stacked)


def choose_config(on_val: Sequence[Sequence[Scores]], select: str) -> int:
    """Return the config whose mean score on val over the draws is best; of equals, the one with the lowest loss.

    Args:
        on_val: of each draw, the scores of each config's head.
        select: as of `merit`.

    Raises:
        UsageError: every config's head diverged in a draw.
    """
    merits = [
        np.mean([merit(scores, select) for scores in of_config], axis=0) for of_config in zip(*on_val, strict=True)
    ]
    best = max(range(len(merits)), key=lambda index: tuple(merits[index]))
    if not np.isfinite(merits[best]).all():
        raise UsageError(f"--shots: every one of {len(merits)} heads diverged in a draw; lower --lr")
    return best
