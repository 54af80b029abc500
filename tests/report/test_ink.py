"""Black or white on a colour."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from featcache.report.ink import legible_ink


@given(st.tuples(*[st.floats(0, 1)] * 3))
def test_ink_is_legible_on_every_colour(colour):
    """Black or white on any colour has a contrast of at least 4.5, WCAG's AA."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    luminance = float(np.dot([0.2126, 0.7152, 0.0722], linear))
    contrast = 1.05 / (luminance + 0.05) if legible_ink(*colour) == "#ffffff" else (luminance + 0.05) / 0.05
    assert contrast >= 4.5
