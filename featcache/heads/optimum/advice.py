"""What would bring a head nearer to its optimum: never a guess. A setting is named after it was trained and measured.

Heads of the same sweep that differ in the learning rate alone have been trained already; where there is time left in
the check's budget, larger learning rates are trained side by side, then more epochs.
"""

import time
from collections.abc import Sequence
from dataclasses import replace

from featcache.features import Features
from featcache.heads import HeadConfig, LinearHead
from featcache.heads.optimum.check import THERE, Check, Objective, Trial, check_head
from featcache.heads.training import train_heads
from featcache.recipe import HeadSettings, declared_settings

LARGER, LONGER = (3, 10, 30, 100), 3  # times the learning rate, times the epochs
_EPOCHS = declared_settings(HeadSettings)["epochs"]


def check_and_advise(
    head: LinearHead, trained: Sequence[LinearHead], train: Features, val: Features | None, seconds: float,
    took: float, device: str,
) -> Check:  # fmt: skip
    """The check of a head and, where it is far from its optimum, what gets nearer.

    Args:
        head: one of `trained`.
        trained: the heads of one fit.
        train: the rows that they were trained on.
        val: scored, nothing else.
        seconds: the time for all of it; trials are left out where they would not fit.
        took: the seconds that training them took, all together.
        device: where torch computes.
    """
    ends = time.perf_counter() + seconds
    check = check_head(head, train, val, seconds=seconds, device=device)
    if not check.gap_share >= THERE:
        return check
    objective = Objective(head.config, train, device)

    def tried(others: Sequence[LinearHead], setting: str) -> list[Trial]:
        values = [objective.at(other).value for other in others]
        return [
            Trial(f"--{setting}", getattr(other.config, setting), max(0.0, 1 - check.objective / value))
            for other, value in zip(others, values, strict=True)
            if value > 0  # never where it diverged
        ]

    beside = [h for h in trained if h is not head and replace(h.config, lr=head.config.lr) == head.config]
    found = tried([other for other in beside if other.config.lr > head.config.lr], "lr")
    one = took / len(trained)  # at least what a head costs: side by side they are cheaper
    known = {trial.value for trial in found}
    longer = [epochs for epochs in (LONGER * head.config.epochs,) if _EPOCHS.accepts(epochs)]
    for configs, setting, cost in (
        ([_with(head.config, lr=by * head.config.lr) for by in LARGER], "lr", len(LARGER) * one),
        ([_with(head.config, epochs=epochs) for epochs in longer], "epochs", LONGER * one),
    ):
        wanted = [config for config in configs if setting != "lr" or config.lr not in known]
        if any(trial.share < THERE for trial in found) or not wanted:
            break
        if time.perf_counter() + 1.5 * cost < ends:
            found += tried(train_heads(train, None, wanted, device=device), setting)
    return replace(check, tried=tuple(found), no_time=not found, seconds=seconds + time.perf_counter() - ends)


def _with(config: HeadConfig, *, lr: float | None = None, epochs: int | None = None) -> HeadConfig:
    """The same settings; patience needs a val split that advice has no use for."""
    return replace(config, patience=None, lr=float(f"{lr or config.lr:.3g}"), epochs=epochs or config.epochs)
