"""Numbers and settings as a person reads them."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

ROUNDING = 1e-12  # of a value: what differs by less differs by the rounding of float64 alone
ABSENT = "–"  # noqa: RUF001  the typographic dash of an empty table cell


def number(value: Any, digits: int = 4) -> str:
    """Return a number with that many significant digits, large ones grouped by thousands.

    None, NaN and infinity give a dash, as a cell without a figure has.
    """
    if value is None or not math.isfinite(value):
        return ABSENT
    if isinstance(value, int | np.integer) or (float(value).is_integer() and abs(value) < 1e15):
        return _minus(f"{int(value):,}")
    magnitude = abs(value)
    if 1e-3 <= magnitude < 10**digits:
        decimals = max(0, digits - 1 - math.floor(math.log10(magnitude)))
        return _minus(f"{value:.{decimals}f}")
    if 10**digits <= magnitude < 1e9:
        return _minus(f"{value:,.0f}")
    return _minus(f"{value:.{digits - 2}e}".replace("e-0", "e-").replace("e+0", "e"))


def aligned(value: float | None, spread: float | None) -> tuple[str, str]:
    """Return a value and its spread with the spread's two significant digits in both.

    A spread of rounding alone is 0.
    """
    if value is None or spread is None or not math.isfinite(spread) or spread <= 0:
        return number(value), number(spread)
    if math.isfinite(value) and spread <= ROUNDING * abs(value):
        return number(value), number(0.0)
    decimals = 1 - math.floor(math.log10(spread))
    if not 0 <= decimals <= 6 or not math.isfinite(value):
        return number(value), number(spread, 2)
    return _minus(f"{value:,.{decimals}f}"), f"{spread:,.{decimals}f}"


def plus_minus(value: float | None, spread: float | None) -> str:
    """Return "value ± spread", or the value alone where there is no spread."""
    shown, around = aligned(value, spread)
    return shown if around == ABSENT else f"{shown} ± {around}"


def short(value: float) -> str:
    """Return a number with at most four significant digits and no zeros that say nothing."""
    if not math.isfinite(value):
        return ABSENT
    shown = f"{value:,.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:.4g}"
    return shown.replace("e-0", "e-").replace("e+", "e")


def setting(value: Any) -> str:
    """Return a setting as text: numbers rounded for reading, lists in brackets."""
    if value is None:
        return ABSENT
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return f"[{', '.join(setting(item) for item in value)}]"
    return short(float(value)) if isinstance(value, int | float | np.number) else str(value)


def duration(seconds: float) -> str:
    """Return a time in its two largest units: "4.2 s", "3 min 05 s", "2 h 10 min"."""
    if not math.isfinite(seconds):
        return ABSENT
    if seconds < 59.5:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60:02d} min"


def count(amount: int, noun: str) -> str:
    """Return "1 trial" or "3 trials"."""
    return f"{amount:,} {noun}" if amount == 1 else f"{amount:,} {noun}s"


def listed(names: Sequence[str]) -> str:
    """Return "a", "a and b" or "a, b and c"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _minus(text: str) -> str:
    return f"\N{MINUS SIGN}{text[1:]}" if text.startswith("-") else text
