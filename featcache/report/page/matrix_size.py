"""How large the confusion matrix is drawn: as large as its place allows, by rules of style for its classes."""

from collections.abc import Sequence

from rich.cells import cell_len

_CHARACTER = 0.56  # em, of a proportional font's letter, about
_FLAT = 12  # characters; a longer name stands upright above its column


def matrix_rules(names: Sequence[str]) -> str:
    """Return the style rules of a matrix of these classes: its number of columns, and the room of its names.

    The style sheet makes of them the edge of a cell. Where all names fit above their columns they lie flat.

    Args:
        names: as they are shown.
    """
    count, longest = len(names), max(map(cell_len, names))
    room = longest * _CHARACTER + 1
    rules = f"#matrix{{--classes:{count};--names:{room:.2f}}}\n"
    if longest <= _FLAT:
        # From this width of its place on, in em of the names, a cell is as wide as the longest name above it.
        wide = room + count * (room + 0.4)
        rules += (
            f"@container (min-width:{wide:.2f}em){{#matrix thead th{{text-align:center}}"
            f"#matrix thead th span{{writing-mode:horizontal-tb;transform:none}}}}\n"
        )
    return rules
