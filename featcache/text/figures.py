"""How figures are written: shares in per cent, losses, counts with their noun, what is not defined."""

import math

UNDEFINED = "–"  # what stands for a figure that is not defined, or not known


def percent(share: float, decimals: int = 1) -> str:
    """Return a share as "71.2 %"; a dash where it is undefined.

    Args:
        share: In 0 … 1, or a difference of two shares; nan where it is undefined.
        decimals: Digits behind the point.
    """
    return UNDEFINED if math.isnan(share) else f"{100 * share:.{decimals}f} %"


def percent_at_least(share: float) -> str:
    """Return a share rounded down, so that "at least 71 %" stays true: whole per cents, tenths of one below 1 %.

    Args:
        share: In 0 … 1.
    """
    return f"{math.floor(share * 100)} %" if share >= 0.01 else f"{math.floor(share * 1000) / 10:.1f} %"


def percent_number(share: float, decimals: int = 1, *, signed: bool = False) -> str:
    """Return a share as "71.2", for a column that says "in %"; a dash where it is undefined.

    Args:
        share: As for `percent`.
        decimals: Digits behind the point.
        signed: Whether a number above zero gets a plus sign, as a difference does.
    """
    return UNDEFINED if math.isnan(share) else f"{100 * share:{'+' if signed else ''}.{decimals}f}"


def decimal(value: float) -> str:
    """Return a loss as "0.6931", a huge one as "1.23e+09"; a dash where it is undefined or infinite.

    Args:
        value: A loss, natural logarithm; nan or infinite where there is none.
    """
    if not math.isfinite(value):
        return UNDEFINED
    return f"{value:.4f}" if value < 1e4 else f"{value:.3g}"


def counted(number: int, noun: str) -> str:
    """Return a count with its noun: "1 shard", "2,000 shards", "3 classes".

    Args:
        number: How many, 0 or more.
        noun: What is counted, in the singular.
    """
    return f"1 {noun}" if number == 1 else f"{number:,} {plural(noun)}"


def plural(noun: str) -> str:
    """Return the plural of a noun: "shards", "classes".

    Args:
        noun: In the singular: regular, or ending in s.
    """
    return f"{noun}es" if noun.endswith("s") else f"{noun}s"


def clock(seconds: float) -> str:
    """Return minutes and seconds of a video, to a tenth: "1:07.5".

    Args:
        seconds: From the start of the video.
    """
    minutes, rest = divmod(round(seconds, 1), 60)
    return f"{minutes:.0f}:{rest:04.1f}"


def bar(share: float, cells: int) -> str:
    """Return a bar of at most `cells` cells, exact to an eighth of one; `share` is in 0 … 1.

    Args:
        share: In 0 … 1; the part of the cells that is filled.
        cells: The width of a whole bar, in terminal cells.
    """
    full, rest = divmod(round(share * cells * 8), 8)
    return "█" * full + " ▏▎▍▌▋▊▉"[rest].strip()
