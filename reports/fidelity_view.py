"""How alike two variants are: the pairs that were held against each other, and where a merge lost most."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reports.numbers import amount, plain
from reports.view import RunView


def fidelity_rows(view: RunView) -> tuple[tuple[str, ...], ...]:
    """Return pair, metric, value, interval and n of every fidelity metric."""
    rows = []
    for name in view.names("fidelity"):
        metric = view.summary.metrics[name]
        for variant, row in metric.variants.items():
            value, interval = amount(row.value, row.low, row.high, unit=metric.unit)
            pair = f"{variant} against {view.against_of(name, variant) or 'another'}"
            unit = "" if value.endswith("%") or not metric.unit else f" {metric.unit}"
            rows.append((view.label(name), pair, value + unit, interval or "none", plain(float(row.n), 0)))
    return tuple(rows)


def worst_layers(view: RunView) -> tuple[tuple[str, ...], ...]:
    """Return the merged weights with the largest errors, where the run recorded the merge's report."""
    known: Any = view.manifest.training.get("merge") or view.manifest.provenance.get("merge")
    if not isinstance(known, Mapping):
        return ()
    reports = [("merged", known)] if "worst_layers" in known else [(str(name), one) for name, one in known.items()]
    rows = []
    for variant, report in reports:
        layers = report.get("worst_layers") if isinstance(report, Mapping) else None
        for layer in layers if isinstance(layers, (list, tuple)) else ():
            error, kept = layer.get("relative_error"), layer.get("kept")
            rows.append((variant, str(layer.get("name", "")), _percent(error), _percent(kept)))
    return tuple(rows)


def _percent(value: Any) -> str:
    return f"{plain(float(value) * 100, 1)}\u00a0%" if isinstance(value, (int, float)) else "–"
