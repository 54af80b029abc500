"""Text from strangers, such as class names and paths: inert on the terminal, cut to a width, legible."""

from rich.cells import cell_len


def printable(name: str) -> str:
    r"""A name as it is safe to show: what a terminal would act on, or hide, stands as its escape.

    Control characters (a newline, an ANSI escape), bidi and zero-width controls, line separators, unusual
    spaces, unassigned code points and the surrogates of names that are not UTF-8 become `\n`, `\x1b`,
    `\u202e`, `\udc80`. Everything else stays, a backslash too: what is printable already does not change, so
    a whole message may go through it. rich's markup is not its concern: show names as `rich.text.Text`, never
    as `str`.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in name)


def shorten(text: str, width: int) -> str:
    """The text in at most `width` terminal cells, cut in the middle: class names differ at either end."""
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
    """A bar of at most `cells` cells, exact to an eighth of one."""
    full, rest = divmod(round(share * cells * 8), 8)
    return "█" * full + " ▏▎▍▌▋▊▉"[rest].strip()


def ink(red: float, green: float, blue: float) -> str:
    """Black or white, whichever reads better on this colour (channels in 0 … 1); WCAG 2.2 relative luminance.

    The contrast is never under 4.58, the square root of 21.
    """
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (red, green, blue)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000000" if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "#ffffff"
