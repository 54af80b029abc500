"""Black or white: which of them is legible on a colour."""


def legible_ink(red: float, green: float, blue: float) -> str:
    """Return black or white, whichever reads better on a colour (channels in 0 … 1); WCAG 2.2 relative luminance.

    The contrast is never under 4.58, the square root of 21.

    Args:
        red: sRGB, 0 … 1.
        green: sRGB, 0 … 1.
        blue: sRGB, 0 … 1.
    """
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (red, green, blue)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000000" if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "#ffffff"
