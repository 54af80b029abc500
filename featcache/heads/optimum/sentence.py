"""What a check says, in sentences: val first, the training objective second. Nothing here computes.

Two claims about val are made only where the 95 % interval of the paired difference leaves out 0: that training longer
would help or harm, and that another weight decay is better. Everything else is no difference that val can show. They
are about macro recall (or accuracy); where the loss on val moves the other way, or moves alone, the sentence says that.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from featcache.heads import Scores
from featcache.text import counted, percent, percent_at_least, percent_number

if TYPE_CHECKING:
    from featcache.heads.optimum.check import Check, TriedSetting
    from featcache.heads.optimum.difference import ValDifference

NEAR_OPTIMUM = 0.01  # a head whose objective could fall by less than this share needs no advice
LOSS_MOVES = 0.05  # the share by which a loss on val must change to be spoken of
AT_OPTIMUM = 0.001  # one whose objective could fall by less than this share is called at the optimum
MORE_TIME = "--check-seconds gives more"


def describe_check(check: "Check") -> str:
    """Return how far a head is from the optimum, and what is better on val."""
    if not math.isfinite(check.head_objective):
        return _describe_diverged(check)
    if not check.converged and not check.iterations:
        if check.gap_share >= AT_OPTIMUM:  # zero weights are better than the head
            return f"{_distance(check)}."
        return (
            f"The check had no time for a single iteration and cannot say how far the head is from the optimum "
            f"({MORE_TIME})."
        )
    if check.difference is None or not check.val or not check.head_val:
        return _describe_without_val(check)
    scores = f"{_scores(check, check.val)}; the head has {_scores(check, check.head_val)}"
    if check.gap_share < NEAR_OPTIMUM and check.converged:
        first = f"{_distance(check)}: {_scores(check, check.head_val)} on val, the optimum {_scores(check, check.val)}."
        return " ".join([first, *_describe_weight_decays(check)])
    first = f"{_describe_longer(check, check.difference, scores)}."
    tail = "; a linear head can classify every training row right" if check.separable else ""
    return " ".join([first, *_describe_weight_decays(check), f"{_distance(check)}{tail}."])


def _describe_longer(check: "Check", difference: "ValDifference", scores: str) -> str:
    """Return what the objective's own optimum, as far as it was reached, says of training longer."""
    reached = "the optimum of this objective" if check.converged else "what the check reached of the optimum"
    metric, moves = check.metric.replace("_", " "), _loss_moves(check)
    if difference.is_better:
        if moves == "raises":
            first = f"Training longer pays in {metric}, but raises the loss on val: {reached} has {scores}"
            return f"{first}{_advise_longer(check)}"
        return f"Training longer pays: {reached} is better on val ({scores}){_advise_longer(check)}"
    step = "Training longer" if check.converged else "Lowering this objective further"
    if difference.is_worse and moves == "lowers":
        return f"{step} makes {metric} on val worse, but lowers the loss there: {reached} has {scores}"
    if difference.is_worse and check.converged:
        return f"Nothing to gain by training longer: {reached} is worse on val ({scores})"
    if difference.is_worse:
        return f"Lowering this objective further makes val worse: {reached} has {scores}"
    what = f" to {metric} that val can show, but {moves} the loss there" if moves else " that val can show"
    return f"{step} makes no difference{what}: {reached} has {scores} ({_interval(difference)})"


def _loss_moves(check: "Check") -> str:
    """Return "raises" or "lowers" where the loss on val of the objective's own optimum is clearly another; else ""."""
    if check.val is None or check.head_val is None or not math.isfinite(check.head_val.loss):
        return ""
    if check.val.loss > (1 + LOSS_MOVES) * check.head_val.loss:
        return "raises"
    return "lowers" if check.val.loss < (1 - LOSS_MOVES) * check.head_val.loss else ""


def _describe_diverged(check: "Check") -> str:
    """Return what is known where the head has no finite objective."""
    scores = f"{_scores(check, check.val or check.train)} on {'train' if check.val is None else 'val'}"
    reached = "the optimum" if check.converged else f"the check, which {_stopped(check)},"
    return f"The head diverged and has no distance to the optimum; {reached} has {scores}."


def _describe_without_val(check: "Check") -> str:
    """Return the distance to the optimum and what gets nearer to it, by the training rows alone."""
    tail = "; a linear head can classify every training row right" if check.separable else ""
    reached = "the optimum" if check.converged else "the check"
    scores = f"the head has {_scores(check, check.head_train)} on train, {reached} {_scores(check, check.train)}"
    return f"{_distance(check)}{_advise_nearer(check)}: {scores}{tail}."


def _distance(check: "Check") -> str:
    """Return how far the objective could still fall."""
    loss = f"training loss, including {_enumerate([*check.loss_terms, f'weight decay {check.weight_decay:g}'])},"
    if check.gap_share >= AT_OPTIMUM and check.converged:
        return f"The head's {loss} could still fall by {percent_at_least(check.gap_share)}"
    if check.gap_share >= AT_OPTIMUM:
        fall = percent_at_least(check.gap_share)
        return f"The head's {loss} could still fall by at least {fall} (the check {_stopped(check)})"
    if check.converged:
        return f"The head is at the optimum: its {loss} could fall by less than {percent(AT_OPTIMUM)}"
    return f"The check {_stopped(check)}, having lowered the head's {loss} by less than {percent(AT_OPTIMUM)}"


def _advise_nearer(check: "Check") -> str:
    """Return which setting gets nearer to the optimum, of those that were tried; "" where there is nothing to say."""
    if check.no_time:
        return f"; there was no time to try another --lr ({MORE_TIME})"
    if not check.tried:
        return ""
    best = min(check.tried, key=lambda trial: trial.share)
    if best.share < NEAR_OPTIMUM:
        return f"; raise {best.flag} (with {best.value:g} it could fall by less than {percent(NEAR_OPTIMUM, 0)})"
    if best.share < check.gap_share / 2:
        return f"; raise {best.flag} (with {best.value:g} it could fall by only {percent_at_least(best.share)})"
    return f"; none of the settings that were tried ({_name_trials(check.tried)}) gets even half of the way"


def _advise_longer(check: "Check") -> str:
    """Return which setting of those that were tried is better on val, where the objective's own optimum is."""
    if check.best_trial is not None:
        return ""  # a sentence of its own
    if check.no_time:
        return f"; there was no time to try another --lr ({MORE_TIME})"
    if check.tried:
        return f"; none of the settings that were tried ({_name_trials(check.tried)}) gets there"
    return ""


def _describe_weight_decays(check: "Check") -> list[str]:
    """Return the sentences on what is better on val: a head that was trained, else another weight decay's optimum."""
    best, optimum, difference = check.best_trial, check.regularised, check.regularised_difference
    if best is not None and best.val is not None and best.difference is not None:
        return [
            f"Try {name_settings(best)}: a head trained with it has {_scores(check, best.val)} on val "
            f"({_interval(best.difference)})."
        ]
    if optimum is None or difference is None:
        return []
    optima = check.path.optima
    if not optima:
        return [f"There was no time to look for a better weight decay ({MORE_TIME})."]
    if check.better_weight_decay is None and not check.path.is_complete:
        return [
            f"None of the weight decays that there was time for, {optima[0].weight_decay:g} to "
            f"{optima[-1].weight_decay:g}, does better, as far as val can tell ({MORE_TIME})."
        ]
    metric, lower = check.metric.replace("_", " "), _describe_lower_loss(check)
    better = f"has a better {metric}" if lower else "does better"
    if optimum.weight_decay == check.weight_decay:
        return [f"No other weight decay {better} on val{lower}."]
    if check.better_weight_decay is None:
        return [
            f"Another weight decay makes no difference that val can show: the best of {len(optima) + 1} optima, at "
            f"{optimum.weight_decay:g}, has {_scores(check, optimum.val)} ({_interval(difference)}){lower}."
        ]
    reached = "" if optimum.converged else ", as far as the check came,"
    way = f"; `featcache fit logreg C={check.logreg_c:.3g}` finds it" if check.logreg_c and optimum.converged else ""
    if check.no_time:
        way += f"; there was no time to train a head with it ({MORE_TIME})"
    elif check.tried:
        way += f"; none of the heads that were trained for it ({_name_trials(check.tried)}) gets there"
    return [
        f"The optimum with weight decay {optimum.weight_decay:g}{reached} is better: {_scores(check, optimum.val)} on "
        f"val ({_interval(difference)}){way}."
    ]


def _describe_lower_loss(check: "Check") -> str:
    """Return which weight decay has a clearly lower loss on val than the optimum that is best there; "" for none."""
    optimum = check.regularised
    lowest = min(check.path.optima, key=lambda other: other.val.loss, default=None)
    if optimum is None or lowest is None or not lowest.val.loss < (1 - LOSS_MOVES) * optimum.val.loss:
        return ""
    return f"; the lowest loss there has weight decay {lowest.weight_decay:g}, with {_scores(check, lowest.val)}"


def name_settings(trial: "TriedSetting") -> str:
    """Return the settings of a trial as they are typed: "--weight-decay 0.01 --lr 0.03"."""
    settings = trial.settings or {trial.flag: trial.value}
    return " ".join(f"--{name.removeprefix('--').replace('_', '-')} {value:g}" for name, value in settings.items())


def _name_trials(trials: Sequence["TriedSetting"]) -> str:
    return ", ".join(name_settings(trial) for trial in trials)


def _stopped(check: "Check") -> str:
    return f"stopped early, after {counted(check.iterations, 'iteration')} in {check.seconds:.0f} s"


def _interval(difference: "ValDifference") -> str:
    """Return a difference on val with its interval, or why there is none."""
    groups = counted(difference.groups, difference.unit)
    if difference.interval is None:
        return f"{groups} {'is' if difference.groups == 1 else 'are'} too few to tell"
    value, low, high = (
        percent_number(end, signed=True)
        for end in (difference.value, difference.interval.low, difference.interval.high)
    )
    return f"{value} points against the head, 95 % interval {low} to {high} over {groups}"


def _enumerate(words: Sequence[str]) -> str:
    """Return words as in a sentence: "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _scores(check: "Check", scores: Scores) -> str:
    """Return scores in words."""
    share = getattr(scores, check.metric)
    return f"{check.metric.replace('_', ' ')} {percent(share)} and loss {scores.loss:.3f}"
