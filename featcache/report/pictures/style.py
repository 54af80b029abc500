"""What all pictures share: fonts, colours, a blank figure, and the PNG file that it becomes."""

import contextlib
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from featcache.report import check_destination, save_bytes
from featcache.text import printable

if TYPE_CHECKING:  # importing matplotlib takes half a second, which only a picture should pay
    from matplotlib.figure import Figure

DPI = 150
LONGEST = 44  # characters of a name; a longer one is cut in the middle
# Fonts that know Chinese, Japanese and Korean; the first one found is used.
CJK = ("Noto Sans CJK JP", "Noto Sans CJK SC", "Source Han Sans", "WenQuanYi Zen Hei", "Hiragino Sans",
       "PingFang SC", "Arial Unicode MS", "Microsoft YaHei", "Yu Gothic")  # fmt: skip
GREY, PALE, BLUE, RUST = "#595959", "#e4e4e4", "#2f6fad", "#9a3b00"


@contextlib.contextmanager
def picture_style() -> Iterator[None]:
    """Set matplotlib's defaults but for a few: no matplotlibrc changes what a report looks like."""
    import matplotlib as mpl
    from matplotlib import font_manager

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams["text.parse_math"] = False  # a $ in a class name is a dollar
        mpl.rcParams["axes.linewidth"] = mpl.rcParams["hatch.linewidth"] = 0.6
        installed = {font.name for font in font_manager.fontManager.ttflist}
        mpl.rcParams["font.family"] = ["DejaVu Sans", *[name for name in CJK if name in installed][:1]]
        yield


def make_legible() -> Callable[[str], str]:
    """Return a function that writes a name with the glyphs that the fonts have, and what they lack as its escape."""
    from matplotlib import font_manager as fonts

    installed = [fonts.get_font(fonts.findfont(family)) for family in fonts.FontProperties().get_family()]

    def legible(name: str) -> str:
        return "".join(
            c if any(font.get_char_index(ord(c)) for font in installed) else c.encode("unicode_escape").decode()
            for c in printable(name)
        )

    return legible


def blank_figure() -> "Figure":
    """Return an empty figure that needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure()
    FigureCanvasAgg(figure)
    return figure


def save_png(draw: Callable[[], "Figure"], path: Path) -> None:
    """Write what `draw` draws, in the style of all pictures; the same figure gives the same bytes.

    Args:
        draw: called once the destination is known to be good.
        path: the file; an existing one is replaced.

    Raises:
        UsageError: the path does not end in .png, its folder does not exist, or it is a folder.
        MachineError: it cannot be written; what was there before is untouched.
    """
    check_destination(path, ".png")
    content = io.BytesIO()
    with picture_style():
        draw().savefig(content, format="png", dpi=DPI, metadata={"Software": None})
        save_bytes(path, content.getvalue())


def draw_heading(figure: "Figure", title: str, notes: Sequence[str], *, left: float, top: float) -> None:
    """Write the title of a picture in bold, and its notes below it; the figure has its final size.

    Args:
        figure: Where they are written.
        title: One line.
        notes: A line each.
        left: Inches from the left edge.
        top: Inches from the upper edge to the middle of the title.
    """
    wide, high = figure.get_size_inches()
    figure.text(left / wide, 1 - top / high, title, fontsize=10, fontweight="bold", va="center")
    for number, text in enumerate(notes):
        figure.text(left / wide, 1 - (top + 0.22 + 0.2 * number) / high, text, fontsize=9, color=RUST, va="center")


def widest(figure: "Figure", texts: Iterable[str], font: float) -> float:
    """Return the width in inches of the widest of the texts."""
    from matplotlib.text import Text

    widths = [Text(0, 0, text, fontsize=font, figure=figure).get_window_extent().width for text in texts]
    return max(widths, default=0.0) / figure.dpi
