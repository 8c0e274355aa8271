"""Axes: where a value is in a picture, and the ticks that say so."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from reports.numbers import plain, tiny


@dataclass(frozen=True)
class Axis:
    """An axis from ``low`` at the pixel ``start`` to ``high`` at ``end``; a logarithmic one needs ``low`` > 0."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """Return the pixel of a value."""
        low, high, value = (self._position(number) for number in (self.low, self.high, value))
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def _position(self, value: float) -> float:
        return math.log10(max(value, 1e-300)) if self.logarithmic else value

    def ticks(self, most: int = 5) -> list[tuple[float, str]]:
        """Return about ``most`` round values on the axis, with their labels."""
        values = self._powers(most) if self.logarithmic and self.high > 10 * self.low else self._steps(most)
        return [(value, label) for value, label in values if self.low <= value <= self.high]

    def _steps(self, most: int) -> list[tuple[float, str]]:
        rough = (self.high - self.low) / max(1, most)
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if factor * power >= rough * 0.999)
        digits = next((k for k in range(12) if abs(step * 10**k - round(step * 10**k)) < 1e-6 * step * 10**k), 12)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        values = [min(self.high, max(self.low, k * step)) for k in range(first, last + 1)]
        return [(value, plain(value, digits) if digits <= 4 or value == 0 else tiny(value, 3)) for value in values]

    def _powers(self, most: int) -> list[tuple[float, str]]:
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        values: list[float] = []
        for subs, stride in (((1, 2, 5), 1), ((1, 3), 1), *(((1,), stride) for stride in range(1, last - first + 2))):
            powers = range(first, last + 1, stride)
            values = [float(f"{sub}e{power}") for power in powers for sub in subs]
            if sum(self.low <= value <= self.high for value in values) <= most:
                break
        return [(value, f"{value:,.10g}" if value >= 1e-3 else tiny(value)) for value in values]


def around(
    values: Iterable[float],
    start: float,
    end: float,
    *,
    room: float = 0.06,
    logarithmic: bool = False,
    floor: float | None = None,
) -> Axis:
    """Return an axis that shows all values with ``room`` (a share of its length) at both ends.

    ``floor``: begin exactly there. Not finite values are ignored; without any the axis goes from 0 to 1.
    """
    found = [value for value in values if math.isfinite(value) and (value > 0 or not logarithmic)] or [0.0, 1.0]
    low, high = min(found), max(found)
    if logarithmic:
        low, high = max(low, 1e-300), max(high, 1e-300)
        spare = (high / low) ** room if high > low else 2.0
        return Axis(low / spare, high * spare, start, end, logarithmic=True)
    spare = room * (high - low) if high > low else max(abs(high), 1e-9) * 0.5
    return Axis(low - spare if floor is None else min(floor, low), high + spare, start, end)
