"""Rows in the order of a number, for figures that follow from an order and are wanted under many weightings.

A resample of groups is a weighting of the rows. The order does not change with the weights, so it is made once.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Ordering:
    """Rows by a number of theirs, equal ones together.

    Attributes:
        order: (rows,) the rows, by their number.
        last: (different,) the place in `order` of the last row of each different number.
    """

    order: npt.NDArray[np.int64]
    last: npt.NDArray[np.int64]

    def cumulate(self, weights: Doubles) -> Doubles:
        """Return the sum of weights (n, rows) up to each different number, (n, different)."""
        sums: Doubles = np.cumsum(weights[:, self.order], axis=1)[:, self.last]
        return sums

    def ranks(self, weights: Doubles) -> Doubles:
        """Return the rank of each row where row i stands `weights` times, (n, rows); equal ones share their mean."""
        ends = self.cumulate(weights)
        starts = np.concatenate([np.zeros((len(ends), 1)), ends[:, :-1]], axis=1)
        of_number = np.repeat((starts + ends + 1) / 2, np.diff(self.last, prepend=-1), axis=1)
        ranks = np.empty_like(weights)
        ranks[:, self.order] = of_number
        return ranks


def order_rows(values: Doubles, *, descending: bool = False) -> Ordering:
    """Return the order of rows by their values (rows,)."""
    order = np.argsort(-values if descending else values, kind="stable")
    ordered = values[order]
    return Ordering(order, np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True)[: len(ordered)]))
