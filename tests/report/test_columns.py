"""Tables of heads at any width: no figure is cut, and what is left out is named."""

import io

import pytest
from rich.cells import cell_len
from rich.console import Console

from featcache.report.columns import Column, FittingTable

TABLE = FittingTable(
    [
        Column(heading="#", cells=["#1 *", "#12"], is_name=True, legend="*: the best"),
        Column(heading="name", cells=["lr0.003-weight-decay0.01-1a2b3c4d", "漢字クラス" * 9], is_name=True),
        Column(heading="loss", cells=["0.6931", "1.23e+09"], group="val", rank=2),
        Column(heading="macro recall", cells=["71.2 %", "–"], group="val"),
        Column(heading="gap", cells=["–", "99.0 %"], rank=3, legend="gap: how far"),
    ],
    "--json has them all",
)


def shown(width, *, terminal=True):
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None, legacy_windows=False)
    console.print(TABLE, crop=False)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", range(36, 120))
def test_a_table_fits_its_terminal_with_every_figure_whole(width):
    """Columns are left out, the least needed first, and a line names them and where they are; legends go with them."""
    lines = shown(width)
    assert all(cell_len(line) <= width for line in lines)
    text = " ".join(lines)
    assert "71.2 %" in text
    for heading, figure in (("val loss", "1.23e+09"), ("gap", "99.0 %")):
        assert (figure in text) != (heading in text.partition("left out")[2])
    assert ("gap: how far" in text) == ("99.0 %" in text)


def test_what_is_piped_is_written_in_full(monkeypatch):
    """Every column and every name on a line of its own, whatever the width that a terminal would have."""
    monkeypatch.delenv("COLUMNS", raising=False)
    lines = shown(40, terminal=False)
    assert any("lr0.003-weight-decay0.01-1a2b3c4d" in line and "71.2 %" in line for line in lines)
    assert any("漢字クラス" * 9 in line and "99.0 %" in line for line in lines)
