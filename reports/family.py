"""Which of several comparisons that a sentence speaks of are worse, corrected together."""

from __future__ import annotations

from harness.stats.family import holm
from harness.store.schema import ComparisonRow

FAMILY_ERROR = 0.05  # the chance that a sentence calls anything worse which is not


def worse_after_holm(rows: list[tuple[str, ComparisonRow]]) -> set[str]:
    """Return the names of the rows that are worse after Holm's correction over all of them.

    A row without a p-value has that which its outcome allows.
    """
    known = [(0.05 if row.outcome == "worse" else 1.0) if row.p_value is None else row.p_value for _, row in rows]
    adjusted = zip(rows, holm(known), strict=True)
    return {name for (name, row), p_value in adjusted if row.outcome == "worse" and p_value <= FAMILY_ERROR}
