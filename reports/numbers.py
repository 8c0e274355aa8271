"""Numbers as the page prints them: as many digits as the interval supports, a real minus sign, a unit."""

from __future__ import annotations

import math
from collections.abc import Iterable

from harness.gating.amounts import MINUS, UNIT_WORDS, sign, written

_MOST = 6  # decimals of any number; what they cannot show is written with a power of ten
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def unit_word(unit: str) -> str:
    """Return the unit in words."""
    return UNIT_WORDS.get(unit, unit)


def shared_decimals(triples: Iterable[tuple[float | None, float | None, float | None]], unit: str) -> int | None:
    """Return the decimals for the numbers of one row, as the widest interval supports; None without intervals."""
    factor = 100.0 if is_share(unit) else 1.0
    found = [
        decimals(value * factor, low * factor, high * factor)
        for value, low, high in triples
        if value is not None and low is not None and high is not None and high > low
    ]
    if not found:
        return None
    return max(1, min(found)) if is_share(unit) else min(found)


def is_share(unit: str) -> bool:
    """Return whether values of this unit are shares of one, which are printed as percentages."""
    return unit.lower() in {"rate", "fraction", "proportion"} or unit.lower().startswith("share")


def plain(value: float | None, digits: int | None = None, *, signed: bool = False) -> str:
    """Return a number with ``digits`` decimals (absent: three significant digits); ``–`` for None."""
    if value is None:
        return "–"
    if math.isnan(value) or math.isinf(value):
        return "not a number" if math.isnan(value) else ("∞" if value > 0 else f"{MINUS}∞")
    digits = significant(value, 3) if digits is None else digits
    text = written(value, digits, signed=signed)
    rounded_to_zero = value != 0 and not text.strip("0.")
    return tiny(value, signed=signed) if rounded_to_zero and digits >= _MOST else text


def tiny(value: float, count: int = 1, *, signed: bool = False) -> str:
    """Return at most ``count`` significant digits and a power of ten: ``−4×10⁻⁷``."""
    digits, power = f"{abs(value):.{count - 1}e}".split("e")
    digits = digits.rstrip("0").rstrip(".") if "." in digits else digits
    return f"{sign(value, signed=signed)}{digits}×10{str(int(power)).translate(_RAISED)}"


def significant(value: float, count: int) -> int:
    """Return how many decimals show ``count`` significant digits of ``value``, at most 6."""
    if value == 0 or not math.isfinite(value):
        return 0 if not value else 2
    return min(_MOST, max(0, count - 1 - math.floor(math.log10(abs(value)))))


def near(shared: int | None, value: float | None, low: float | None, high: float | None, unit: str) -> int | None:
    """Return the row's decimals if they resolve the interval, else None: a row may span scales."""
    factor = 100.0 if is_share(unit) else 1.0
    if shared is None or value is None or low is None or high is None or high <= low:
        return shared
    return None if (high - low) * factor / 2 < 10.0**-shared else shared


def brief(value: float | None, *, signed: bool = True) -> str:
    """Return a difference for a sentence: two significant digits, but hundredths if they are enough."""
    if value is None or not math.isfinite(value):
        return plain(value)
    digits = significant(value, 2) if abs(value) >= 0.1 else max(2, significant(value, 1))
    return plain(value, min(4, digits), signed=signed)


def decimals(value: float | None, low: float | None, high: float | None) -> int:
    """Return the decimals whose last place is at most a third of the interval's half-width; more would be noise."""
    if value is None:
        return 0
    if low is None or high is None or high <= low or not math.isfinite(high - low):
        return significant(value, 3)
    return min(_MOST, max(0, math.ceil(-math.log10((high - low) / 6))))


def amount(
    value: float | None,
    low: float | None = None,
    high: float | None = None,
    *,
    unit: str = "",
    signed: bool = False,
    digits: int | None = None,
) -> tuple[str, str]:
    """Return value and interval as text, e.g. ``("0.289", "0.271 to 0.306")``; no interval is an empty text.

    Shares become percent (differences of shares: percentage points), MiB above 1,024 become GiB. ``digits``: decimals
    (absent: as many as the interval supports).
    """
    if value is None:
        return "–", ""
    factor, suffix = scale(unit, value, signed=signed)
    value, low, high = value * factor, _times(low, factor), _times(high, factor)
    if digits is None or suffix.strip() == "GiB":
        digits = decimals(value, low, high)
        if is_share(unit):
            digits = max(1, min(3, significant(value, 1)) if low is None or high is None else digits)
    if low is None or high is None:
        return plain(value, digits, signed=signed) + suffix, ""
    if not signed:
        return plain(value, digits) + suffix, f"{plain(low, digits)} to {plain(high, digits)}"
    clear = not low <= 0 <= high
    shown = plain(value, apart(digits, value) if clear else digits, signed=True) + suffix
    return shown, bounds(low, high, digits, signed=True)


def bounds(low: float, high: float, digits: int, *, signed: bool = False, none: float = 0.0) -> str:
    """Return an interval as text; an end other than ``none`` gets as many digits as it takes to see that.

    ``+3, 0 to +8`` would look undecided if the interval begins at 0.2.
    """
    clear = not low <= none <= high
    return " to ".join(plain(end, apart(digits, end - none) if clear else digits, signed=signed) for end in (low, high))


def apart(digits: int, distance: float) -> int:
    """Return ``digits``, or as many more (up to 6) as it takes for ``distance`` not to be rounded to zero."""
    while digits < _MOST and abs(distance) < 0.5 * 10.0**-digits:
        digits += 1
    return digits


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def scale(unit: str, value: float, *, signed: bool = False) -> tuple[float, str]:
    """Return the factor and the suffix for printing values of ``unit``."""
    if is_share(unit):
        return 100.0, "\u00a0points" if signed else "\u00a0%"
    if unit == "MiB":
        return (1 / 1024, "\u00a0GiB") if abs(value) >= 1024 else (1.0, "\u00a0MiB")
    return 1.0, ""


def ratio(value: float | None, low: float | None = None, high: float | None = None) -> tuple[str, str]:
    """Return a ratio and its interval, e.g. ``("1.62 ×", "1.58 to 1.66")``."""
    if value is None:
        return "–", ""
    narrow = low is not None and high is not None and low < high and plain(low, 2) == plain(high, 2)
    digits = 3 if narrow else 2
    return f"{plain(value, digits)}\u00a0×", "" if low is None or high is None else bounds(low, high, digits, none=1.0)


def rounded(number: int) -> str:
    """Return a count rounded up to two significant digits: 6,428 becomes ``6,500``."""
    step = 10 ** max(0, len(str(number)) - 2)
    return plain(float(-(-number // step) * step), 0)


def size(characters: int) -> str:
    """Return a text's length, e.g. ``1,200 characters``."""
    return f"{plain(characters, 0)} characters"


def count(number: int, noun: str, plural: str | None = None) -> str:
    """Return ``1 check`` or ``3 checks``."""
    return f"{plain(float(number), 0)} {noun if number == 1 else plural or noun + 's'}"


_SMALL = ("No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten", "Eleven", "Twelve")


def spelled(number: int) -> str:
    """Return a count for the start of a sentence: ``Two``, ``Twelve``, ``13``."""
    return _SMALL[number] if 0 <= number < len(_SMALL) else str(number)
