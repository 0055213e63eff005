"""Numbers as the report writes them: one minus sign (U+2212), one sign for a missing value."""

import math

MISSING = "–"
MINUS = "−"


def signed(value: float, digits: int) -> str:
    """Format a number with its sign, as `+2.1` or `−0.4`."""
    return f"{value:+.{digits}f}".replace("-", MINUS)


def number(value: float, digits: int = 2) -> str:
    """Format a number that may be NaN; small ones become `<0.001` and the like."""
    if math.isnan(value):
        return MISSING
    least = 10**-digits
    return f"<{least:.{digits}f}" if 0 < value < least else f"{value:.{digits}f}".replace("-", MINUS)


def counted(count: int, noun: str) -> str:
    """Write a number with its noun, as `1 seed` or `5 seeds`."""
    return f"{count} {noun}{'s' * (count != 1)}"


def interval(low: float, high: float) -> str:
    """Format an interval as `[−0.33, +1.26]`."""
    return MISSING if math.isnan(low) else f"[{signed(low, 2)}, {signed(high, 2)}]"
