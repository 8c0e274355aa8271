"""Slices as tables: the candidate's difference within each part of the data."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from harness.store.schema import SliceRow
from reports.differences import difference_text
from reports.numbers import plain
from reports.view import RunView
from reports.words import OUTCOMES, Sign


@dataclass(frozen=True)
class SliceLine:
    """One slice and one metric."""

    level: str
    metric: str
    n: str
    change: str
    interval: str
    sign: Sign
    q_value: str
    order: float | None


@dataclass(frozen=True)
class SliceTable:
    """All slices of one column."""

    column: str
    lines: tuple[SliceLine, ...]
    left_out: int


_MOST = 200


def slice_tables(view: RunView) -> tuple[SliceTable, ...]:
    """Return one table per column, for the candidate."""
    by_column: dict[str, list[SliceRow]] = defaultdict(list)
    for row in view.summary.slices:
        if row.comparison.variant == view.candidate and row.comparison.metric in view.summary.metrics:
            by_column[row.column].append(row)
    return tuple(
        SliceTable(column, tuple(_line(view, row) for row in rows[:_MOST]), max(0, len(rows) - _MOST))
        for column, rows in by_column.items()
    )


def _line(view: RunView, row: SliceRow) -> SliceLine:
    found = row.comparison
    change, interval = difference_text(found, view.summary.metrics[found.metric].unit)
    q_value = "–" if row.q_value is None else "< 0.001" if row.q_value < 0.001 else plain(row.q_value, 3)
    return SliceLine(
        row.level,
        view.label(found.metric),
        str(found.n),
        change,
        interval,
        OUTCOMES[found.outcome],
        q_value,
        found.value,
    )
