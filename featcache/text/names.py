"""How names and values from strangers are shown: inert on the terminal, cut to a width."""

from collections.abc import Sequence


def printable(name: str) -> str:
    r"""Return a name as it is safe to show: what a terminal would act on, or hide, stands as its escape.

    Control characters (a newline, an ANSI escape), bidi and zero-width controls, line separators, unusual
    spaces, unassigned code points and the surrogates of names that are not UTF-8 become `\n`, `\x1b`,
    `\u202e`, `\udc80`. Everything else stays, a backslash too: what is printable already does not change, so
    a whole message may go through it. rich's markup is not its concern: show names as `rich.text.Text`, never
    as `str`.

    Args:
        name: A name, path or message, as it was found.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in name)


def shorten(text: str, width: int) -> str:
    """Return the text in at most `width` terminal cells, cut in the middle: class names differ at either end.

    Args:
        text: One line.
        width: Terminal cells; wide characters take two.
    """
    from rich.cells import cell_len  # here, since every start of the package imports this module

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


def value_text(value: object, longest: int = 80) -> str:
    """Return a value as a message shows it: in one line, of at most `longest` characters.

    Args:
        value: What a user or a file gave, of any type.
        longest: Characters.
    """
    try:
        text = " ".join(repr(value).split())  # an array's has lines
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        return "a number of more than 4,300 digits"
    if len(text) > longest and isinstance(value, int):
        return f"a number of {len(str(abs(value))):,} digits"
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def enumerate_words(words: Sequence[str]) -> str:
    """Return words as in a sentence: "a", "a and b", "a, b and c".

    Args:
        words: In their order; none gives "".
    """
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
