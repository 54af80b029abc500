"""Which losses, metrics and other settings a head can have for a data set's targets: one class, labels, numbers."""

from collections.abc import Collection, Mapping

from featcache.errors import UsageError
from featcache.features import Features
from featcache.heads.kept_targets import KeptTargets
from featcache.metrics import LABEL_METRICS, VALUE_FIGURES
from featcache.recipe import LABEL, LABELS, VALUE, FinetuneSection, HeadSection, join_alternatives

LOSSES: Mapping[str, tuple[str, ...]] = {
    LABEL: ("cross_entropy",),
    LABELS: ("binary_cross_entropy",),
    VALUE: ("squared_error", "huber"),
}
SELECTIONS: Mapping[str, tuple[str, ...]] = {  # the first is the default
    LABEL: ("macro_recall", "accuracy", "loss"),
    LABELS: (*LABEL_METRICS, "loss"),
    VALUE: (*VALUE_FIGURES, "loss"),
}
IN_WORDS: Mapping[str, str] = {LABEL: "one class a row", LABELS: "several labels a row", VALUE: "numbers"}
_OF_CLASSES: Mapping[str, object] = {
    "sampler": "uniform",
    "logit_adjustment": 0.0,
    "label_smoothing": 0.0,
    "matmul_precision": "fp32",
}


def fit_to_targets(section: HeadSection, kind: str, given: Collection[str] = ()) -> HeadSection:
    """Return the head section with the loss and the metric that are for the targets, where nobody states another.

    Args:
        section: the recipe's, with the flags and `--grid` in it.
        kind: LABEL, LABELS or VALUE.
        given: the settings that were typed, not those of the recipe.

    Raises:
        UsageError: the loss, the metric or another setting is not one for such targets.
    """
    stated = section.model_fields_set
    for name, choices in (("loss", LOSSES[kind]), ("select", SELECTIONS[kind])):
        if name in stated and getattr(section, name) not in choices:
            raise _misfit(name, getattr(section, name), kind, choices)
    if kind != LABEL:
        refuse_settings_of_classes(section, kind)
    if kind != LABEL:  # whose loss and metric are the declared defaults
        filled = {"loss": LOSSES[kind][0], "select": SELECTIONS[kind][0]}
        section = section.model_copy(update={name: value for name, value in filled.items() if name not in stated})
    if "huber_delta" in given and section.loss != "huber":
        raise UsageError(
            f"--huber-delta has no effect with the loss {section.loss}: it is a setting of --loss huber"
        ).correct("--huber-delta", None)
    return section


def settings_of_classes(kind: str) -> Mapping[str, object]:
    """Return the settings that such targets do not have, each with the value at which it does nothing.

    Args:
        kind: LABEL, LABELS or VALUE.
    """
    if kind == LABEL:
        return {}
    return {**_OF_CLASSES, "class_weights": "none"} if kind == VALUE else _OF_CLASSES


def loss_of(kind: str) -> str:
    """Return the loss of such targets where nobody states another.

    Args:
        kind: LABEL, LABELS or VALUE.
    """
    return LOSSES[kind][0]


def refuse_settings_of_classes(section: HeadSection | FinetuneSection, kind: str) -> None:
    """Raise a UsageError where a setting is about classes, and the targets are not.

    Args:
        section: of heads, where a setting may have several values, or of fine-tuning.
        kind: LABEL, LABELS or VALUE.

    Raises:
        UsageError: see above.
    """
    for name, neutral in settings_of_classes(kind).items():
        stated = getattr(section, name, neutral)
        values = stated if isinstance(stated, tuple) else (stated,)
        if others := [value for value in values if value != neutral]:
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(
                f"{flag} {others[0]}: it is about one class a row, and these targets are {IN_WORDS[kind]}; leave it out"
            ).correct(flag, None)


def _misfit(name: str, value: str, kind: str, choices: tuple[str, ...]) -> UsageError:
    option = f"--{name}"
    return UsageError(
        f"{option}: found {value}, expected {join_alternatives(choices)}: the targets are {IN_WORDS[kind]}"
    ).correct(option, choices[0])


def refuse_check_of_targets(kind: str, check_seconds: float | str | None, unstated: str) -> None:
    """Raise a UsageError where somebody gives a check seconds that is made of classes alone.

    Raises:
        UsageError: the targets are not classes, and a number of seconds was given.
    """
    if kind != LABEL and check_seconds not in (None, unstated):
        raise UsageError(
            f"--check-seconds has no effect on {IN_WORDS[kind]}: the check against the optimum is of the cross-entropy "
            f"of classes; leave it out"
        ).correct("--check-seconds", None)


def never_from_disk(kind: str, from_disk: bool | None) -> bool | None:
    """Return where training rows are read from: with several labels or numbers a row, memory.

    Args:
        kind: LABEL, LABELS or VALUE.
        from_disk: as fit-head was told; None where nobody said.

    Raises:
        UsageError: from disk, with such targets.
    """
    if kind == LABEL:
        return from_disk
    if from_disk:
        raise UsageError(
            f"--from-disk: rows with {IN_WORDS[kind]} are held in memory; leave it out".replace(
                "rows with numbers", "rows with numbers to predict"
            )
        ).correct("--from-disk", None)
    return False


def absent_labels(train: Features) -> list[str]:
    """Return the labels that no training row has; none where the targets are no labels."""
    if train.targets is None or train.targets.kind != LABELS:
        return []
    return [name for name, rows in zip(train.classes, train.targets.support().tolist(), strict=True) if not rows]


def note_on_targets(train: Features, val: Features | None, kept: KeptTargets) -> list[str]:
    """Return what a person must know of labels or numbers beside the scores, as sentences.

    Args:
        train: the training rows.
        val: the rows that chose; None without them.
        kept: what a head keeps of its targets.
    """
    notes = []
    if absent := absent_labels(train):
        verb = "has" if len(absent) == 1 else "have"
        notes.append(
            f"{len(absent)} of {len(train.classes)} labels {verb} no training image: {', '.join(absent[:5])}; nothing "
            f"can be learnt of such a label"
        )
    if kept.thresholds:
        notes.append(
            "the thresholds of the labels are chosen on val, each for the highest F1: the F1 on val flatters, that on "
            "test does not"
        )
    elif val is None and train.targets is not None and train.targets.kind == LABELS:
        notes.append("without a val split every label has the threshold 0.5")
    return notes
