"""What would bring a head nearer to its optimum: never a guess. A setting is named after it was trained and measured.

Heads of the same sweep that differ in the learning rate alone have been trained already; where there is time left in
the check's budget, larger learning rates are trained side by side, then more epochs.
"""

import time
from collections.abc import Sequence
from dataclasses import replace

from featcache.features import Features
from featcache.heads import HeadConfig, LinearHead
from featcache.heads.optimum.check import NEAR_OPTIMUM, Check, TriedSetting, check_head
from featcache.heads.optimum.objective import Objective
from featcache.heads.training import train_heads
from featcache.recipe import HeadSettings, declared_settings

LARGER, LONGER = (3, 10, 30, 100), 3  # times the learning rate, times the epochs
_EPOCHS = declared_settings(HeadSettings)["epochs"]
MARGIN = 1.5  # a trial may take longer than it is expected to


def check_and_advise(
    head: LinearHead, trained: Sequence[LinearHead], train: Features, val: Features | None, seconds: float,
    training_seconds: float, device: str,
) -> Check:  # fmt: skip
    """Return the check of a head and, where it is far from its optimum, what gets nearer.

    Args:
        head: one of `trained`.
        trained: the heads of one fit.
        train: the rows that they were trained on.
        val: scored, nothing else.
        seconds: the time for all of it; trials are left out where they would not fit.
        training_seconds: what training the heads took, all together.
        device: where torch computes.

    Raises:
        UsageError: as in `check_head`.
    """
    deadline = time.perf_counter() + seconds
    check = check_head(head, train, val, seconds=seconds, device=device)
    if not check.gap_share >= NEAR_OPTIMUM:
        return check
    objective = Objective(head.config, train, device)

    def measure(others: Sequence[LinearHead], setting: str) -> list[TriedSetting]:
        """Return how far each of these heads, which differ in one setting, is from the optimum."""
        values = [objective.evaluate(other).value for other in others]
        return [
            TriedSetting(f"--{setting}", getattr(other.config, setting), max(0.0, 1 - check.objective / value))
            for other, value in zip(others, values, strict=True)
            if value > 0  # never where it diverged
        ]

    siblings = [
        other for other in trained if other is not head and replace(other.config, lr=head.config.lr) == head.config
    ]
    tried = measure([other for other in siblings if other.config.lr > head.config.lr], "lr")
    cost_of_one = training_seconds / len(trained)  # at least what a head costs: side by side they are cheaper
    tried_values = {trial.value for trial in tried}
    longer = [epochs for epochs in (LONGER * head.config.epochs,) if _EPOCHS.accepts(epochs)]
    for configs, setting, cost in (
        ([_trial_config(head.config, lr=by * head.config.lr) for by in LARGER], "lr", len(LARGER) * cost_of_one),
        ([_trial_config(head.config, epochs=epochs) for epochs in longer], "epochs", LONGER * cost_of_one),
    ):
        untried = [config for config in configs if setting != "lr" or config.lr not in tried_values]
        if any(trial.share < NEAR_OPTIMUM for trial in tried) or not untried:
            break
        if time.perf_counter() + MARGIN * cost < deadline:
            tried += measure(train_heads(train, None, untried, device=device), setting)
    return replace(check, tried=tuple(tried), no_time=not tried, seconds=seconds + time.perf_counter() - deadline)


def _trial_config(config: HeadConfig, *, lr: float | None = None, epochs: int | None = None) -> HeadConfig:
    """Return the settings of a trial: patience needs a val split that advice has no use for."""
    return replace(config, patience=None, lr=float(f"{lr or config.lr:.3g}"), epochs=epochs or config.epochs)
