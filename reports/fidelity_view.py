"""How similar two variants are: the pairs that were compared, and where merging lost most."""

from __future__ import annotations

from pydantic import Field

from harness.files import Row, read_model
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


class _Layer(Row):
    name: str = ""
    relative_error: float | None = None
    kept: float | None = None


class _Merge(Row):
    worst_layers: tuple[_Layer, ...] = ()
    reason: str | None = None


class _WeightErrors(Row):
    variants: dict[str, _Merge] = Field(default_factory=dict)


def worst_layers(view: RunView) -> tuple[tuple[str, ...], ...]:
    """Return the merged weights with the largest errors, if the fidelity pass saved them."""
    return tuple(
        (variant, layer.name, _percent(layer.relative_error), _percent(layer.kept))
        for variant, merge in _merges(view).items()
        for layer in merge.worst_layers
    )


def unknown_weights(view: RunView) -> tuple[tuple[str, str], ...]:
    """Return the merged variants whose weight errors are not known, and why."""
    return tuple((variant, merge.reason) for variant, merge in _merges(view).items() if merge.reason)


def _merges(view: RunView) -> dict[str, _Merge]:
    path = view.folder.root / "fidelity_weights.json"
    return read_model(_WeightErrors, path).variants if path.is_file() else {}


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{plain(value * 100, 1)}\u00a0%"
