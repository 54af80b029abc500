"""How figures are written, and how names from strangers are: inert on the terminal, cut to a width, legible."""

import math

from rich.cells import cell_len

UNDEFINED = "–"  # what stands for a figure that is not defined, or not known


def percent(share: float, decimals: int = 1) -> str:
    """Return a share as "71.2 %"; a dash where it is undefined."""
    return UNDEFINED if math.isnan(share) else f"{100 * share:.{decimals}f} %"


def percent_number(share: float, decimals: int = 1, *, signed: bool = False) -> str:
    """Return a share as "71.2", for a column that says "in %"; a dash where it is undefined."""
    return UNDEFINED if math.isnan(share) else f"{100 * share:{'+' if signed else ''}.{decimals}f}"


def decimal(value: float) -> str:
    """Return a loss as "0.6931", a huge one as "1.23e+09"; a dash where it is undefined or infinite."""
    if not math.isfinite(value):
        return UNDEFINED
    return f"{value:.4f}" if value < 1e4 else f"{value:.3g}"


def counted(number: int, noun: str) -> str:
    """Return a count with its noun: "1 shard", "2,000 shards", "3 classes"."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"1 {noun}" if number == 1 else f"{number:,} {plural}"


def clock(seconds: float) -> str:
    """Return minutes and seconds of a video, to a tenth: "1:07.5"."""
    minutes, rest = divmod(round(seconds, 1), 60)
    return f"{minutes:.0f}:{rest:04.1f}"


def printable(name: str) -> str:
    r"""Return a name as it is safe to show: what a terminal would act on, or hide, stands as its escape.

    Control characters (a newline, an ANSI escape), bidi and zero-width controls, line separators, unusual
    spaces, unassigned code points and the surrogates of names that are not UTF-8 become `\n`, `\x1b`,
    `\u202e`, `\udc80`. Everything else stays, a backslash too: what is printable already does not change, so
    a whole message may go through it. rich's markup is not its concern: show names as `rich.text.Text`, never
    as `str`.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in name)


def shorten(text: str, width: int) -> str:
    """Return the text in at most `width` terminal cells, cut in the middle: class names differ at either end."""
    if cell_len(text) <= width:
        return text
    if width < 1:
        return ""
    front, back = text[:width], text[-width:]
    while cell_len(front) > width // 2:
        front = front[:-1]
    while cell_len(back) > (width - 1) // 2:
        back = back[1:]
    return f"{front}…{back}"


def bar(share: float, cells: int) -> str:
    """Return a bar of at most `cells` cells, exact to an eighth of one; `share` is in 0 … 1."""
    full, rest = divmod(round(share * cells * 8), 8)
    return "█" * full + " ▏▎▍▌▋▊▉"[rest].strip()


def legible_ink(red: float, green: float, blue: float) -> str:
    """Return black or white, whichever reads better on a colour (channels in 0 … 1); WCAG 2.2 relative luminance.

    The contrast is never under 4.58, the square root of 21.
    """
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (red, green, blue)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000000" if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "#ffffff"
