"""The panels of learning curves: every label is told from the others, and lies within its panel."""

import re

from featcache.report.page.charts import Curve, draw_curves
from featcache.report.page.curves import _differing_parts


def test_labels_are_what_tells_heads_apart():
    """Settings that every head of the run has are left out, an exponent's dash is none between settings."""
    names = ["lr1e-05-wd0.1-batch16-aaaaaaaa", "lr1e-05-batch16-bbbbbbbb"]
    assert list(_differing_parts(names).values()) == ["wd0.1", "lr1e-05-batch16"]


def test_labels_lie_within_the_panel():
    """However long the names are, the widest label ends before the panel does."""
    curves = [
        Curve(label, label == "b", (1, 2), {"val_loss": (0.4, 0.2)})
        for label in ("lr0.001-wd0.001-batch16", "b", "c" * 99)
    ]
    drawn = str(draw_curves(curves, "val_loss", share=False, title="loss"))
    (width,) = re.findall(r'viewBox="0 0 ([0-9.]+) ', drawn)
    labels = re.findall(r'class="label[^"]*" x="([0-9.]+)"[^>]*>([^<]+)<', drawn)
    assert len(labels) == 3
    assert all(float(x) + 6 * len(label) < float(width) for x, label in labels)
    assert "c" * 30 not in drawn
