"""Slices: the levels of a column to show, length buckets, and q-values over everything shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from harness.stats.types import Difference

MOST_LEVELS = 20
FEWEST_UNITS = 10


def level_of(value: object) -> str | None:
    """Return the slice name of a column's value; None for values that name none (absent, a list, a mapping)."""
    if value is None or isinstance(value, list | tuple | dict | set):
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value).strip()
    return text or None


def levels(values: Iterable[object], *, most: int = MOST_LEVELS, fewest_units: int = FEWEST_UNITS) -> tuple[str, ...]:
    """Return the ``most`` frequent levels with at least ``fewest_units`` units, in order of frequency."""
    counts = Counter(level for level in map(level_of, values) if level is not None)
    enough = [(level, count) for level, count in counts.items() if count >= fewest_units]
    return tuple(level for level, _ in sorted(enough, key=lambda pair: (-pair[1], pair[0]))[:most])


def length_bucket(words: int) -> str:
    """Return the bucket of a length: powers of two, so that runs over different data share buckets."""
    if words <= 16:
        return "≤ 16"
    upper = 32
    while words > upper and upper < 4096:
        upper *= 2
    return f"{upper // 2 + 1}–{upper}" if words <= upper else "> 4096"


def q_values(differences: Sequence[Difference]) -> tuple[float | None, ...]:
    """Return the Benjamini–Hochberg q-value of each difference, or None if it has no p-value.

    For display only: the gate applies its own correction (Holm).
    """
    present = [difference.p_value for difference in differences if difference.p_value is not None]
    adjusted = iter(_adjusted(present) if present else ())
    return tuple(None if difference.p_value is None else float(next(adjusted)) for difference in differences)


def _adjusted(p_values: Sequence[float]) -> Iterable[float]:
    from scipy.stats import false_discovery_control  # slow to import, and few runs have slices

    adjusted: Iterable[float] = false_discovery_control(p_values)
    return adjusted
