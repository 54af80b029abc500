"""The colours of a cell of the matrix, for paper and for the dark: computed, so that its text always reads."""

from featcache.report import legible_ink

LEVELS = 12  # of shade; a cell of share s has level ceil(LEVELS sqrt(s)): small confusions still show

_Colour = tuple[int, int, int]
_RAMPS: dict[str, dict[str, tuple[_Colour, _Colour]]] = {
    # right predictions (o) are blue, mistakes (x) orange: the two differ to every eye
    "light": {"o": ((229, 239, 249), (12, 62, 120)), "x": ((253, 241, 229), (160, 58, 10))},
    "dark": {"o": ((28, 40, 58), (132, 188, 245)), "x": ((50, 37, 28), (247, 168, 98))},
}


def shade_rules() -> str:
    """Return the rules of the classes o1 … and x1 …; those for the dark only on a screen, so that paper stays light."""
    light, dark = ("".join(_rules(theme)) for theme in ("light", "dark"))
    return f"{light}\n@media screen and (prefers-color-scheme: dark){{{dark}}}\n"


def shade_level(share: float) -> int:
    """Return the level of shade of a share in 0 … 1; 0 for none."""
    return min(LEVELS, int(-(-LEVELS * share**0.5 // 1))) if share > 0 else 0


def _rules(theme: str) -> list[str]:
    rules = []
    for letter, (low, high) in _RAMPS[theme].items():
        for step in range(1, LEVELS + 1):
            at = (step - 1) / (LEVELS - 1)
            red, green, blue = (round(a + at * (b - a)) for a, b in zip(low, high, strict=True))
            text = legible_ink(red / 255, green / 255, blue / 255)
            rules.append(f".{letter}{step}{{background:#{red:02x}{green:02x}{blue:02x};color:{text}}}")
    return rules
