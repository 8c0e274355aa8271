"""A difference in words: what it is, that there is no clear one, or that it is too small to matter."""

from __future__ import annotations

from harness.stats.types import Difference
from harness.store.acceptance import AcceptedChange
from harness.store.schema import ComparisonRow
from reports.numbers import amount, near, plain, ratio, rounded, scale, significant
from reports.view import RunView

_TOLERATED = frozenset({"non_inferiority", "no_regression"})  # rules whose limit is a loss to put up with
_REACHABLE = 10  # a number of dialogues that many times the run's is worth telling


def difference_text(
    row: ComparisonRow | Difference | AcceptedChange, unit: str, digits: int | None = None
) -> tuple[str, str]:
    """Return a difference (or ratio) and its interval as text."""
    if row.relative:
        return ratio(row.value, row.low, row.high)
    shown = near(digits, row.value, row.low, row.high, unit)
    return amount(row.value, row.low, row.high, unit=unit, signed=True, digits=shown)


def margin(view: RunView, row: ComparisonRow) -> float | None:
    """Return the difference that the gate's thresholds call too small to matter, as a distance from none.

    That is an equivalence check's margin or, for an undecided difference, a tolerated loss: one that is proven is told
    even if it is tolerated. None without such a check of the difference or ratio itself.
    """
    rules = _TOLERATED | {"equivalence"} if row.outcome == "undecided" else {"equivalence"}
    none = 1.0 if row.relative else 0.0
    found = [
        abs(check.limit - none)
        for check in view.checks
        if check.rule in rules
        and (check.metric, check.candidate, check.against) == (row.metric, row.variant, row.against)
        and check.scale == ("ratio" if row.relative else "difference")
        and check.slice is None
        and check.scaled_other is None
        and check.limit is not None
    ]
    return min(found) if found else None


def nothing_to_say(view: RunView, row: ComparisonRow, unit: str) -> str:
    """Return in words that there is no (clear, or practical) difference between two variants; empty if there is one."""
    return silence(row, unit, margin(view, row))


def silence(row: ComparisonRow | Difference, unit: str, allowed: float | None = None) -> str:
    """Return the same of any difference; ``allowed`` is how large a one is too small to matter."""
    none = 1.0 if row.relative else 0.0
    if row.low is not None and row.high is not None:
        farthest = max(abs(row.low - none), abs(row.high - none))
        if row.outcome != "equal" and allowed and farthest < allowed:
            return f"no practical difference (within ±{_distance(allowed, unit, relative=row.relative)})"
        if row.outcome == "undecided":
            return f"no clear difference (±{_distance(farthest, unit, relative=row.relative)})"
    if row.outcome == "undecided":
        return "no clear difference (no interval)"
    return "no difference" if row.outcome == "equal" else ""


def deciding(row: ComparisonRow) -> str:
    """Return how many dialogues (or requests) would decide an undecided difference, if that many can be had."""
    if row.outcome != "undecided" or row.needed_n is None or row.needed_n >= _REACHABLE * row.n:
        return ""
    return f"about {rounded(row.needed_n)} would decide"


def _distance(value: float, unit: str, *, relative: bool) -> str:
    factor, suffix = (100.0, "\u00a0%") if relative else scale(unit, value, signed=True)
    return plain(value * factor, significant(value * factor, 2)) + suffix
