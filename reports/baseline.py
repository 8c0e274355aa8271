"""An earlier run beside this one: its values, and paired differences where both hold the same dialogues."""

from __future__ import annotations

from collections.abc import Mapping

from reports.numbers import amount
from reports.tables import Earlier
from reports.view import RunView


def earlier_cells(view: RunView, baseline: RunView) -> Mapping[tuple[str, str], Earlier]:
    """Return, by metric and variant, what the earlier run has for the variant of the same name."""
    cells = {}
    for name, metric in view.summary.metrics.items():
        old = baseline.metric(name)
        for variant in view.variants:
            row = baseline.estimate(name, variant)
            if old is None or row is None or row.value is None:
                continue
            if old.signature != metric.signature or old.unit != metric.unit:
                cells[name, variant] = Earlier("not comparable: measured in another way")
                continue
            value, interval = amount(row.value, row.low, row.high, unit=metric.unit)
            cells[name, variant] = Earlier(value, interval=interval)
    return cells
