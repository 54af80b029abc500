"""What a check says, in at most three sentences: what to do, then why. Nothing here computes.

Two things are advised only where the 95 % interval of the paired difference on val leaves out 0: to train longer, and
another weight decay. Everything else is no clear difference. Both are about macro recall (or accuracy); where the loss
on val moves the other way, or moves alone, the sentence says that.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from featcache.heads import Scores
from featcache.text import counted, enumerate_words, percent, percent_at_least, percent_number

if TYPE_CHECKING:
    from featcache.heads.optimum.check import Check, TriedSetting
    from featcache.heads.optimum.difference import ValDifference
    from featcache.heads.optimum.path import RegularisedOptimum

NEAR_OPTIMUM = 0.01  # a head whose objective could fall by less than this share needs no advice
LOSS_MOVES = 0.05  # the share by which a loss on val must change to be spoken of
AT_OPTIMUM = 0.001  # one whose objective could fall by less than this share is called at the optimum
MORE_TIME = "--check-seconds gives more"


def describe_check(check: "Check") -> str:
    """Return what to do next, and why: at most three sentences, of what is better on val first."""
    if not math.isfinite(check.head_objective):
        return _describe_diverged(check)
    if not check.converged and not check.iterations:
        return _describe_no_time(check)
    if check.difference is None or not check.val or not check.head_val:
        return _describe_without_val(check)
    sentences = (_advise(check, check.difference), _describe_optimum(check, check.difference), _describe_rest(check))
    return " ".join(sentence for sentence in sentences if sentence)


def _advise(check: "Check", difference: "ValDifference") -> str:
    """Return what to do: a setting that was tried, another weight decay, longer training, or nothing."""
    best, optimum = check.best_trial, check.regularised
    if best is not None and best.val is not None and best.difference is not None:
        scores = f"{_scores(check, best.val)} on val ({_points(best.difference)})"
        return f"Try {name_settings(best)}: a head trained with it has {scores}."
    if check.better_weight_decay is not None and optimum is not None and check.regularised_difference is not None:
        return _advise_weight_decay(check, optimum, check.regularised_difference)
    metric, moves = check.metric.replace("_", " "), _loss_moves(check)
    if difference.is_better and moves == "raises":
        return f"Train longer, with more --epochs or a larger --lr, for a better {metric}; the loss on val would rise."
    if difference.is_better:
        return "Train longer, with more --epochs or a larger --lr."
    if difference.interval is None:
        return f"Nothing to advise: val has {_groups(difference)}, too few to tell which head is better."
    return _advise_nothing(check, difference)


def _advise_weight_decay(check: "Check", optimum: "RegularisedOptimum", difference: "ValDifference") -> str:
    """Return what to do where another weight decay has a better optimum, and no head with it was trained."""
    scores = f"{_scores(check, optimum.val)} on val ({_points(difference)})"
    if check.logreg_c is not None and optimum.converged:
        run = f"Run `featcache fit logreg C={check.logreg_c:.3g}`"
        return f"{run}: it finds the optimum with weight decay {optimum.weight_decay:g}, which has {scores}."
    reached = "" if optimum.converged else ", as far as the check came"
    begin = "Try weight decay" if check.no_time else "Better is weight decay"
    return f"{begin} {optimum.weight_decay:g}: at its optimum{reached} it has {scores}."


def _advise_nothing(check: "Check", difference: "ValDifference") -> str:
    """Return that neither longer training nor another weight decay is better, as far as val and the time can show."""
    metric, optima = check.metric.replace("_", " "), check.path.optima
    as_far = "" if check.path.is_complete else f", as far as there was time to look ({MORE_TIME})"
    if _loss_moves(check) == "lowers" and difference.is_worse:
        return f"Nothing to do for {metric}{as_far}: longer training makes it worse on val, and lowers the loss there."
    if _loss_moves(check) == "lowers":
        return f"Nothing to do for {metric}{as_far}, but longer training would lower the loss on val."
    if not optima:
        return f"Nothing to do{as_far}: longer training is not clearly better on val."
    decay = "another weight decay"
    if not check.path.is_complete:
        decay = f"a weight decay of {optima[0].weight_decay:g} to {optima[-1].weight_decay:g}"
    return f"Nothing to do{as_far}: on val, neither longer training nor {decay} is clearly better."


def _describe_optimum(check: "Check", difference: "ValDifference") -> str:
    """Return what the head would have on val if it were trained to the optimum of its objective, and what it has."""
    if check.val is None or check.head_val is None:
        return ""
    optimum, head = _scores(check, check.val), _scores(check, check.head_val)
    fall = percent_at_least(max(check.gap_share, 0.0))
    if check.converged and check.gap_share < NEAR_OPTIMUM:
        above = f"less than {percent(AT_OPTIMUM)}" if check.gap_share < AT_OPTIMUM else f"only {fall}"
        return f"The head's training objective could fall by {above}; it has {head} on val, the optimum {optimum}."
    points = "" if difference.interval is None else f" ({_points(difference)})"
    where = "trained to the optimum, where its training objective is"
    if not check.converged:
        where = f"trained as far as the check came in {check.seconds:.0f} s, with its training objective at least"
    return f"The head has {head} on val; {where} {fall} lower, it would have {optimum}{points}."


def _describe_rest(check: "Check") -> str:
    """Return what was tried without success, or what another weight decay changes; "" where there is nothing to say."""
    is_advised = check.better_weight_decay is not None or (check.difference is not None and check.difference.is_better)
    if check.best_trial is not None:
        return ""
    if is_advised and check.no_time:
        return f"There was no time to train a head for it ({MORE_TIME})."
    if is_advised and check.tried:
        return f"None of the heads that were trained for it ({_name_trials(check.tried)}) gets there."
    if check.better_weight_decay is not None or not check.path.optima:
        return ""
    return _describe_other_weight_decay(check)


def _describe_other_weight_decay(check: "Check") -> str:
    """Return the weight decay that does best on val without a clear difference, or that has the lowest loss there."""
    optimum, difference = check.regularised, check.regularised_difference
    if optimum is None or difference is None:
        return ""
    lowest = min(check.path.optima, key=lambda other: other.val.loss)
    if lowest.val.loss < (1 - LOSS_MOVES) * optimum.val.loss:
        return f"The lowest loss on val has weight decay {lowest.weight_decay:g}: {_scores(check, lowest.val)}."
    if optimum.weight_decay == check.weight_decay or difference.interval is None:
        return ""
    return (
        f"The best of {len(check.path.optima) + 1} weight decays is {optimum.weight_decay:g}: its optimum has "
        f"{_scores(check, optimum.val)} ({_points(difference)})."
    )


def _loss_moves(check: "Check") -> str:
    """Return "raises" or "lowers" where the loss on val of the objective's own optimum is clearly another; else ""."""
    if check.val is None or check.head_val is None or not math.isfinite(check.head_val.loss):
        return ""
    if check.val.loss > (1 + LOSS_MOVES) * check.head_val.loss:
        return "raises"
    return "lowers" if check.val.loss < (1 - LOSS_MOVES) * check.head_val.loss else ""


def _describe_diverged(check: "Check") -> str:
    """Return what to do where the head has no finite objective, and what the optimum has."""
    scores = f"{_scores(check, check.val or check.train)} on {'train' if check.val is None else 'val'}"
    reached = "has" if check.converged else f"has, as far as the check came in {check.seconds:.0f} s,"
    return f"Take a smaller --lr: the head diverged. The optimum of its training objective {reached} {scores}."


def _describe_no_time(check: "Check") -> str:
    """Return what is known where the check had no time for the optimum."""
    if check.gap_share >= AT_OPTIMUM:
        fall = percent_at_least(check.gap_share)
        return (
            f"Nothing is known of the optimum, for which the check had no time ({MORE_TIME}); but weights of zero have "
            f"a training objective that is {fall} lower than the head's."
        )
    return f"Nothing is known of the optimum: the check had no time for a single iteration ({MORE_TIME})."


def _describe_without_val(check: "Check") -> str:
    """Return what gets nearer to the optimum of the training objective, and the scores of both on train."""
    head, optimum = _scores(check, check.head_train), _scores(check, check.train)
    reached = "the optimum" if check.converged else f"the check, which came no further in {check.seconds:.0f} s,"
    tail = "; a linear head can classify every training row right" if check.separable else ""
    return f"{_advise_nearer(check)} On train the head has {head}, {reached} {optimum}{tail}."


def _advise_nearer(check: "Check") -> str:
    """Return what to do by the training objective alone, in one or two sentences."""
    terms = enumerate_words([*check.loss_terms, f"weight decay {check.weight_decay:g}"])
    objective = f"its training objective (the loss with {terms})"
    if check.gap_share < AT_OPTIMUM:
        return f"Nothing to do: {objective} could fall by less than {percent(AT_OPTIMUM)}{_as_far(check)}."
    least = "" if check.converged else "at least "
    fall = f"{objective} could still fall by {least}{percent_at_least(check.gap_share)}"
    best = min(check.tried, key=lambda trial: trial.share, default=None)
    if check.no_time:
        return f"Train longer: {fall}. There was no time to try another --lr ({MORE_TIME})."
    if best is None:
        return f"Train longer, with more --epochs or a larger --lr: {fall}."
    if best.share < NEAR_OPTIMUM:
        return f"Raise {best.flag} to {best.value:g}: {fall}, with that by less than {percent(NEAR_OPTIMUM, 0)}."
    if best.share < check.gap_share / 2:
        return f"Raise {best.flag} to {best.value:g}: {fall}, with that by only {percent_at_least(best.share)}."
    return (
        f"Train longer: {fall}, and none of the settings that were tried ({_name_trials(check.tried)}) gets half of "
        f"the way."
    )


def _as_far(check: "Check") -> str:
    return "" if check.converged else f", as far as the check came in {check.seconds:.0f} s"


def name_settings(trial: "TriedSetting") -> str:
    """Return the settings of a trial as they are typed: "--weight-decay 0.01 --lr 0.03"."""
    settings = trial.settings or {trial.flag: trial.value}
    return " ".join(f"--{name.removeprefix('--').replace('_', '-')} {value:g}" for name, value in settings.items())


def _name_trials(trials: Sequence["TriedSetting"]) -> str:
    return ", ".join(name_settings(trial) for trial in trials)


def _groups(difference: "ValDifference") -> str:
    return counted(difference.groups, difference.unit)


def _points(difference: "ValDifference") -> str:
    """Return a difference on val with its interval: "+2.7 points, 95 % interval +1.7 to +3.7 over 100 images"."""
    if difference.interval is None:
        return f"{percent_number(difference.value, signed=True)} points"
    value, low, high = (
        percent_number(end, signed=True)
        for end in (difference.value, difference.interval.low, difference.interval.high)
    )
    return f"{value} points, 95 % interval {low} to {high} over {_groups(difference)}"


def _scores(check: "Check", scores: Scores) -> str:
    """Return scores in words."""
    share = getattr(scores, check.metric)
    return f"{check.metric.replace('_', ' ')} {percent(share)} and loss {scores.loss:.3f}"
