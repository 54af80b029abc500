"""What would be better than a head: never a guess. A setting is named after it was trained and measured.

With a val split, what is better on val: a larger learning rate or more epochs where the objective's own optimum is
better there, another weight decay where the regularised optimum is. Where neither optimum is, nothing is tried.

Without one, what comes nearer to the optimum: heads of the same sweep that differ in the learning rate alone have been
trained already; where there is time left, larger learning rates are trained side by side, then more epochs.
"""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from featcache.features import Features, drop_views, stack_views
from featcache.heads import HeadConfig, LinearHead, Scores, score_split
from featcache.heads.optimum.check import Check, TriedSetting, compare_with_optimum, refuse_no_time_or_rows
from featcache.heads.optimum.difference import measure_difference
from featcache.heads.optimum.objective import Objective, spare_threads
from featcache.heads.optimum.sentence import NEAR_OPTIMUM
from featcache.heads.training import train_heads
from featcache.recipe import HeadSettings, declared_settings

LARGER, LONGER = (3, 10, 30, 100), 3  # times the learning rate, times the epochs
BESIDE = (1, 3, 10)  # times the learning rate, beside another weight decay
MARGIN = 1.5  # a trial may take longer than it is expected to
OPTIMUM_SHARE = 0.6  # of the time, where the rest is enough for a trial
_EPOCHS = declared_settings(HeadSettings)["epochs"]
_BATCH_SIZE = declared_settings(HeadSettings)["batch_size"]


def check_and_advise(
    head: LinearHead, trained: Sequence[LinearHead], train: Features, val: Features | None, seconds: float,
    training_seconds: float, device: str, *, select: str = "macro_recall", began: float | None = None,
) -> Check:  # fmt: skip
    """Return the check of a head and, where something else may be better, what was trained and is.

    Args:
        head: one of `trained`.
        trained: the heads of one fit.
        train: the rows that they were trained on. Of a head that drew views, the objective is the mean loss over all
            views of each image, which is what the draws are of on average.
        val: what is better is better on it; None compares training objectives.
        seconds: the time for all of it; trials are left out where they would not fit, and cut where they take longer.
        training_seconds: what training the heads took, all together.
        device: where torch computes.
        select: the metric on val that chooses: macro_recall, accuracy or loss.
        began: what the clock (`time.perf_counter`) read when the check began; None: now.

    Raises:
        UsageError: as in `check_head`.
    """
    began = time.perf_counter() if began is None else began
    refuse_no_time_or_rows(seconds, train)
    deadline = began + seconds
    cost_of_one = MARGIN * training_seconds / len(trained)  # at least what a head costs: side by side they are cheaper
    share = OPTIMUM_SHARE if cost_of_one < (1 - OPTIMUM_SHARE) * seconds else 1.0
    rows = stack_views(train) if head.config.views else drop_views(train)  # of the objective: every view of each image
    measured = replace(head, train=score_split(head.logits, rows)) if head.config.views else head
    with spare_threads(rows):
        objective = Objective(head.config, rows, device)
        now = time.perf_counter()
        check = compare_with_optimum(
            objective, measured, rows, val, deadline=now + share * (deadline - now), select=select
        )  # fmt: skip
        trials = _Trials(head, trained, train, val, device, select, deadline, cost_of_one)
        tried, has_candidates = (_try_on_train if val is None else _try_on_val)(check, objective, trials)
    return replace(
        check, tried=tuple(tried), no_time=has_candidates and not tried, seconds=time.perf_counter() - began
    )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class _Trials:
    """What trials of other settings start from."""

    head: LinearHead
    trained: Sequence[LinearHead]
    train: Features
    val: Features | None
    device: str
    select: str
    deadline: float
    cost_of_one: float  # seconds

    def run(self, configs: Sequence[HeadConfig], cost: float = 1.0) -> list[LinearHead]:
        """Return heads of as many of these settings as there is time for; none where it runs out on the way.

        Args:
            configs: of as many epochs each; the first ones matter most.
            cost: of each, as multiples of one of the heads that were trained.
        """
        affordable = int((self.deadline - time.perf_counter()) / max(cost * self.cost_of_one, 1e-9))
        configs = configs[: max(0, affordable)]
        if not configs:
            return []
        is_cut = False

        def watch(_epoch: int, scores: Sequence[Scores | None]) -> Collection[int]:
            nonlocal is_cut
            is_cut = time.perf_counter() > self.deadline
            return range(len(scores)) if is_cut else ()

        needs_val = any(config.patience or config.schedule == "plateau" for config in configs)
        heads = train_heads(
            self.train, self.val if needs_val else None, configs, select=self.select, device=self.device, watch=watch
        )
        return [] if is_cut else [head for head in heads if isinstance(head, LinearHead)]


def _try_on_val(check: Check, objective: Objective, trials: _Trials) -> tuple[list[TriedSetting], bool]:
    """Return what was tried because an optimum is better on val than the head, and whether there was anything to."""
    is_short = check.difference is not None and check.difference.is_better
    weight_decay = check.better_weight_decay
    config = trials.head.config
    candidates = [
        *(_change(config, weight_decay=weight_decay, lr=by * config.lr) for by in BESIDE if weight_decay is not None),
        *(_change(config, lr=by * config.lr) for by in LARGER if is_short),
    ]
    known = {other.config for other in trials.trained}
    candidates = [candidate for candidate in dict.fromkeys(candidates) if candidate not in known]
    tried = [_measure(head, check, objective, trials) for head in trials.run(candidates)]
    longer = LONGER * config.epochs
    is_better = any(trial.difference is not None and trial.difference.is_better for trial in tried)
    if is_short and not is_better and _EPOCHS.accepts(longer):
        heads = trials.run([_change(config, epochs=longer)], LONGER)
        tried += [_measure(head, check, objective, trials) for head in heads]
    return tried, bool(candidates) or (is_short and _EPOCHS.accepts(longer))


def _try_on_train(check: Check, objective: Objective, trials: _Trials) -> tuple[list[TriedSetting], bool]:
    """Return what was tried because the objective is far from its optimum, and whether there was anything to."""
    head, config = trials.head, trials.head.config
    if not check.gap_share >= NEAR_OPTIMUM:
        return [], False
    siblings = [
        other for other in trials.trained
        if other is not head and other.config.lr > config.lr and replace(other.config, lr=config.lr) == config
    ]  # fmt: skip
    tried = [_measure(other, check, objective, trials) for other in siblings]
    known = {trial.value for trial in tried}
    larger = [_change(config, lr=by * config.lr) for by in LARGER]
    longer = [_change(config, epochs=epochs) for epochs in (LONGER * config.epochs,) if _EPOCHS.accepts(epochs)]
    for configs, cost in (([other for other in larger if other.lr not in known], 1), (longer, LONGER)):
        if any(trial.share < NEAR_OPTIMUM for trial in tried) or not configs:
            break
        tried += [_measure(other, check, objective, trials) for other in trials.run(configs, cost)]
    return [trial for trial in tried if np.isfinite(trial.share)], bool(larger or longer)


def _measure(other: LinearHead, check: Check, objective: Objective, trials: _Trials) -> TriedSetting:
    """Return how far a head is from the optimum of its own objective, and by how much it is better on val."""
    config = trials.head.config
    settings = {
        name: getattr(other.config, name)
        for name in ("weight_decay", "lr", "epochs")
        if getattr(other.config, name) != getattr(config, name)
    }
    lowest, weight_decay = check.objective, check.weight_decay
    if "weight_decay" in settings and check.regularised is not None:
        lowest, weight_decay = check.regularised.point.value, check.regularised.weight_decay
    value = objective.evaluate(other, weight_decay).value
    name = next(iter(settings))
    value_of = settings[name]
    if other.config.batch_size != _BATCH_SIZE.default:  # which a learning rate that is typed brings back
        settings |= {"lr": other.config.lr, "batch_size": other.config.batch_size}
    trial = TriedSetting(
        flag=f"--{name.replace('_', '-')}",
        value=value_of,
        share=max(0.0, 1 - lowest / value) if value > 0 else np.nan,  # where it diverged
        settings=settings,
    )
    if trials.val is None or other.diverged:
        return trial
    val = trials.val
    scores, answers = score_split(other.logits, val), other.logits(val.x).argmax(axis=1)
    of_head = (trials.head.val or score_split(trials.head.logits, val), trials.head.logits(val.x).argmax(axis=1))
    return replace(trial, val=scores, difference=measure_difference(val, (scores, answers), of_head, check.metric))


def _change(config: HeadConfig, **changes: float | int | None) -> HeadConfig:
    """Return settings with some changed; numbers have three digits, as a person would type them."""
    rounded = {name: float(f"{value:.3g}") if isinstance(value, float) else value for name, value in changes.items()}
    return replace(config, **rounded)  # type: ignore[arg-type]
