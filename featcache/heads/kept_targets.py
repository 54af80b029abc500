"""What a head on several labels, or on numbers, keeps beside its weights. Plain values."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class KeptTargets:
    """What is known of the targets where a head was trained; empty for a head on classes.

    Attributes:
        thresholds: of each label, from which probability on it is predicted; chosen on val, () where there was none.
        deviation: of each number over the training rows: the unit in which the loss measures errors.
        mean: of each number over the training rows, of a module of one's own: its outputs are deviations from it, in
            the unit `deviation`. () where the last layer of a module has both in its weights.
    """

    thresholds: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()
    mean: tuple[float, ...] = ()


NO_TARGETS = KeptTargets()  # of a head on classes
