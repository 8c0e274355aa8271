"""The comparison table as rows of finished text; templates only lay them out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from harness.stats.types import Difference
from harness.store.schema import ComparisonRow, EstimateRow
from reports.numbers import amount, is_share, near, plain, ratio, rounded, shared_decimals, significant
from reports.view import RunView
from reports.words import FAMILIES, OUTCOMES, Sign, direction, sentence_case


@dataclass(frozen=True)
class Earlier:
    """The same cell in the baseline run, and the difference from it; ``obstacle`` says why there is none."""

    value: str
    change: str = ""
    interval: str = ""
    sign: Sign | None = None
    obstacle: str = ""


@dataclass(frozen=True)
class Cell:
    """One metric of one variant. ``order`` is the sort key; ``why`` is the power of an undecided comparison."""

    value: str
    interval: str = ""
    change: str = ""
    change_interval: str = ""
    sign: Sign | None = None
    why: str = ""
    notes: tuple[str, ...] = ()
    footnotes: tuple[int, ...] = ()
    order: float | None = None
    earlier: Earlier | None = None


@dataclass(frozen=True)
class MetricRow:
    """One metric over all variants."""

    name: str
    label: str
    unit: str
    direction: str
    signature: str
    conditions: str
    heuristic: bool
    units: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Group:
    """The metrics of one family."""

    family: str
    title: str
    rows: tuple[MetricRow, ...]


@dataclass(frozen=True)
class Table:
    """The comparison table: the main rows, and those under further conditions (other batch sizes or engines).

    ``footnotes`` are the warnings that cells refer to by number, starting at 1.
    """

    main: tuple[Group, ...]
    further: tuple[Group, ...]
    footnotes: tuple[str, ...]


def comparison_table(view: RunView, earlier: Mapping[tuple[str, str], Earlier] | None = None) -> Table:
    """Return the table; ``earlier`` adds the baseline run's cells, by metric and variant."""
    main, further = [], []
    footnotes: dict[str, int] = {}
    for family in view.families:
        rows = [_row(view, metric, earlier or {}, footnotes) for metric in view.names(family)]
        title = FAMILIES.get(family, sentence_case(family))
        main.append(Group(family, title, tuple(row for row in rows if "[" not in row.name)))
        further.append(Group(family, title, tuple(row for row in rows if "[" in row.name)))
    kept = [tuple(group for group in part if group.rows) for part in (main, further)]
    return Table(kept[0], kept[1], tuple(footnotes))


def _row(view: RunView, name: str, earlier: Mapping[tuple[str, str], Earlier], footnotes: dict[str, int]) -> MetricRow:
    metric = view.summary.metrics[name]
    sizes = sorted({row.n for row in metric.variants.values()})
    values = [(row.value, row.low, row.high) for row in metric.variants.values()]
    compared = [row for variant in view.variants if (row := view.comparison(name, variant))]
    digits = (
        shared_decimals(values, metric.unit),
        shared_decimals([(row.value, row.low, row.high) for row in compared], metric.unit),
    )
    return MetricRow(
        name=name,
        label=view.label(name) + _suffix(name),
        unit=view.unit(name),
        direction=direction(metric.higher_is_better),
        signature=metric.signature,
        conditions=", ".join(
            f"{key} {value}" for key, value in metric.conditions.items() if not isinstance(value, (dict, list))
        ),
        heuristic=metric.heuristic,
        units="n\u00a0=\u00a0" + "\u00a0to\u00a0".join(plain(float(size), 0) for size in {sizes[0]: 0, sizes[-1]: 0})
        if sizes
        else "",
        cells=tuple(
            _cell(view, name, variant, earlier.get((name, variant)), digits, footnotes) for variant in view.variants
        ),
    )


def _suffix(name: str) -> str:
    """Return the conditions in brackets of a metric's name, as text."""
    inside = name.partition("[")[2].rstrip("]")
    return f" ({inside.replace('=', ' ').replace(',', ', ')})" if inside else ""


Digits = tuple[int | None, int | None]  # decimals of a row's values and of its differences


def _cell(
    view: RunView, name: str, variant: str, earlier: Earlier | None, digits: Digits, footnotes: dict[str, int]
) -> Cell:
    metric, row, compared = view.summary.metrics[name], view.estimate(name, variant), view.comparison(name, variant)
    warnings = (*(row.warnings if row else ()), *(compared.warnings if compared else ()))
    numbers = tuple(sorted({footnotes.setdefault(warning, len(footnotes) + 1) for warning in warnings}))
    if row is None or row.value is None:
        return Cell("", footnotes=numbers, earlier=earlier)
    value, interval = amount(
        row.value,
        row.low,
        row.high,
        unit=metric.unit,
        digits=near(digits[0], row.value, row.low, row.high, metric.unit),
    )
    against = view.against_of(name, variant) if name.startswith("fidelity.") else None
    cell = Cell(value, interval, footnotes=numbers, order=row.value, earlier=earlier)
    cell = replace(cell, notes=(f"against {against}",) if against else ())
    if compared is None:
        return replace(cell, change=_quotient(view, name, variant, row) if name.startswith("memory.") else "")
    change, change_interval = difference_text(compared, metric.unit, digits[1])
    why = why_undecided(compared, metric.unit)
    return replace(cell, change=change, change_interval=change_interval, sign=OUTCOMES[compared.outcome], why=why)


def _quotient(view: RunView, name: str, variant: str, row: EstimateRow) -> str:
    reference = view.estimate(name, view.reference)
    if variant == view.reference or reference is None or not reference.value or row.value is None:
        return ""
    return ratio(row.value / reference.value)[0]


def difference_text(row: ComparisonRow | Difference, unit: str, digits: int | None = None) -> tuple[str, str]:
    """Return a difference (or ratio) and its interval as text."""
    if row.relative:
        return ratio(row.value, row.low, row.high)
    shown = near(digits, row.value, row.low, row.high, unit)
    return amount(row.value, row.low, row.high, unit=unit, signed=True, digits=shown)


def why_undecided(row: ComparisonRow, unit: str) -> str:
    """Return the smallest detectable difference and how many dialogues would decide, if undecided."""
    if row.outcome != "undecided":
        return ""
    parts = []
    if row.low is None or row.high is None:
        parts.append("no interval")
    if row.mde is not None:
        if row.relative:
            shown = f"{plain(row.mde * 100, 1)}\u00a0%"
        elif is_share(unit):
            shown = f"{plain(row.mde * 100, 1)}\u00a0points"
        else:
            shown = plain(row.mde, min(4, significant(row.mde, 2)))
        parts.append(f"differences under {shown} would go unseen")
    if row.needed_n is not None:
        parts.append(f"about {rounded(row.needed_n)} would decide")
    return "; ".join(parts)
