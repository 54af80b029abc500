"""Risk against coverage is what a plain loop over the surest rows counts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcache.metrics import risk_coverage


@given(st.lists(st.tuples(st.sampled_from([0.2, 0.25, 0.5, 0.9, 1.0]), st.booleans()), min_size=1, max_size=40))
def test_each_point_counts_the_rows_that_are_at_least_so_sure(pairs):
    """Coverage and risk at every confidence, ties together; the area is the mean of the risk over the rows."""
    sure, right = np.array([one for one, _ in pairs]), np.array([hit for _, hit in pairs])
    curve = risk_coverage(sure, right)
    of_row = {}
    for coverage, risk, least in zip(curve.coverage, curve.risk, curve.confidence, strict=True):
        taken = sure >= least
        assert (coverage, risk) == (pytest.approx(taken.mean()), pytest.approx((~right[taken]).mean()))
        of_row[least] = risk
    assert curve.area == pytest.approx(np.mean([of_row[one] for one in sure]))
    assert curve.risk_at(1) == curve.risk[-1] == pytest.approx((~right).mean())
    assert curve.risk_at(1e-9) == curve.risk[0]


def test_without_rows_and_without_confidence_there_is_no_area():
    """No rows, and rows of a diverged head, which are nan: nan."""
    for sure in (np.empty(0), np.array([np.nan])):
        curve = risk_coverage(sure, np.ones(len(sure), dtype=bool))
        assert np.isnan(curve.area)
        assert np.isnan(curve.risk_at(0.5))
