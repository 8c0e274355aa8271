"""How the gate's sentences write measured numbers: shares as percent, as many decimals as the interval supports."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

MINUS = "−"
UNIT_WORDS = {"nats/token": "nats per token", "bits/byte": "bits per byte"}
_UNWRITTEN = ("", "ratio", "F1", "BLEU", "chrF++")  # the metric's name says it


@dataclass(frozen=True)
class Unit:
    """What a value is multiplied by before it is written, and what is written behind it, a difference and a limit."""

    factor: float = 1.0
    value: str = ""
    difference: str = ""
    brief: str = ""

    def limit(self, limit: float, *, signed: bool = False) -> str:
        """Return a limit as precise as the thresholds file has it, with its unit."""
        shown = f"{abs(limit) * self.factor:,.6g}"
        return sign(limit, signed=signed) + shown + (self.difference if signed else self.brief)


def unit_of(unit: str, largest: float = 0.0) -> Unit:
    """Return how values of this unit are written; sizes above 1,024 MiB are written in GiB."""
    if unit.startswith("share"):
        return Unit(100.0, " %", " points", " %")
    if unit == "MiB" and largest >= 1024:
        return Unit(1 / 1024, " GiB", " GiB", " GiB")
    if unit in _UNWRITTEN:
        return Unit()
    if unit in UNIT_WORDS:
        return Unit(1.0, f" {UNIT_WORDS[unit]}")  # once is enough for a long one
    return Unit(1.0, *[f" {unit}"] * 3)


RATIO = Unit(1.0, *[" ×"] * 3)


def sign(number: float, *, signed: bool) -> str:
    """Return the sign to write in front of the number's absolute value."""
    return MINUS if number < 0 else "+" if signed and number > 0 else ""


def decimals(
    value: float, low: float | None, high: float | None, limits: Sequence[float] = (), *, usual: int = 6
) -> int:
    """Return how many decimals to write: the first digit of the interval's half-width, three digits without one.

    At most ``usual``, but more where rounding would put an end of the interval on the limit, or change whether it
    includes zero.
    """
    if low is None or high is None or not high > low:
        least = 0 if value == 0 else min(usual, max(0, 2 - math.floor(math.log10(abs(value)))))
        ends: list[float] = [value]
    else:
        least = min(usual, max(0, math.ceil(-math.log10((high - low) / 2))))
        ends = [low, high]
    told = [(end, other) for end in ends for other in (0.0, *limits) if end != other]
    for digits in range(least, 6):
        if all(round(end, digits) != round(other, digits) for end, other in told):
            return digits
    return least


def written(number: float, digits: int, *, signed: bool = False) -> str:
    """Return the number with this many decimals and a real minus sign; zero has no sign."""
    text = f"{abs(number):,.{digits}f}"
    return text if not text.strip("0.,") else sign(number, signed=signed) + text
