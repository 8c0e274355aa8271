"""How alike two variants are: the pairs that were held against each other, and where a merge lost most."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.errors import InputError
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
    """Return the merged weights with the largest errors, where the fidelity pass left them."""
    rows = []
    for variant, report in _weight_errors(view.folder.root / "fidelity_weights.json").items():
        layers = report.get("worst_layers") if isinstance(report, Mapping) else None
        for layer in layers if isinstance(layers, list) else ():
            if isinstance(layer, Mapping):
                error, kept = _percent(layer.get("relative_error")), _percent(layer.get("kept"))
                rows.append((str(variant), str(layer.get("name", "")), error, kept))
    return tuple(rows)


def _weight_errors(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read. Run the fidelity pass again to replace it.") from error
    variants = raw.get("variants") if isinstance(raw, Mapping) else None
    return variants if isinstance(variants, Mapping) else {}


def _percent(value: Any) -> str:
    return f"{plain(float(value) * 100, 1)}\u00a0%" if isinstance(value, (int, float)) else "–"
