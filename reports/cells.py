"""The comparison table as rows of finished text; templates only lay them out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from harness.store.schema import EstimateRow
from reports.differences import deciding, difference_text, nothing_to_say
from reports.numbers import amount, near, plain, ratio, shared_decimals
from reports.view import RunView
from reports.words import FAMILIES, OUTCOMES, Sign, direction, sentence_case


@dataclass(frozen=True)
class Earlier:
    """The same cell in the baseline run, and the difference from it; ``obstacle`` says why there is none.

    ``quiet`` says in words that there is no clear difference. ``order`` is the value as a number.
    """

    value: str
    change: str = ""
    interval: str = ""
    sign: Sign | None = None
    quiet: str = ""
    obstacle: str = ""
    order: float | None = None


@dataclass(frozen=True)
class Cell:
    """One metric of one variant. ``order`` is the sort key.

    ``quiet`` says in words that there is no clear difference, and ``deciding`` how many dialogues would show one.
    """

    value: str
    interval: str = ""
    change: str = ""
    change_interval: str = ""
    sign: Sign | None = None
    quiet: str = ""
    deciding: str = ""
    order: float | None = None
    earlier: Earlier | None = None

    @property
    def same(self) -> bool:
        """Whether the baseline run may be compared and has the same value."""
        return self.earlier is not None and not self.earlier.obstacle and self.earlier.order == self.order


@dataclass(frozen=True)
class MetricRow:
    """One metric over all variants. ``units`` is its n where that is not its group's; ``footnotes`` begin at 1."""

    name: str
    label: str
    unit: str
    direction: str
    signature: str
    conditions: str
    units: str
    cells: tuple[Cell, ...]
    warnings: tuple[str, ...] = ()
    footnotes: tuple[int, ...] = ()

    @property
    def quiet(self) -> bool:
        """Whether it was compared, and there is no difference to tell of any variant, nor to an earlier run."""
        silent = all(cell.quiet or not cell.change for cell in self.cells)
        decided = any(cell.earlier and cell.earlier.sign and not cell.earlier.quiet for cell in self.cells)
        return silent and any(cell.quiet for cell in self.cells) and not decided


@dataclass(frozen=True)
class Group:
    """The metrics of one family."""

    family: str
    title: str
    rows: tuple[MetricRow, ...]
    remarks: tuple[str, ...] = ()  # what holds for every row that does not say otherwise
    footnotes: tuple[int, ...] = ()  # of most rows


@dataclass(frozen=True)
class Table:
    """The comparison table: the main rows, and those under further conditions (other batch sizes or engines).

    ``footnotes`` are the warnings that groups and rows refer to by number, starting at 1.
    """

    main: tuple[Group, ...]
    further: tuple[Group, ...]
    footnotes: tuple[str, ...]

    @property
    def told(self) -> tuple[Group, ...]:
        """The main rows in which something differs, or nothing was compared."""
        return _some(self.main, quiet=False)

    @property
    def quiet(self) -> tuple[Group, ...]:
        """The main rows in which nothing differs clearly."""
        return _some(self.main, quiet=True)


def _some(groups: tuple[Group, ...], *, quiet: bool) -> tuple[Group, ...]:
    kept = (replace(group, rows=tuple(row for row in group.rows if row.quiet is quiet)) for group in groups)
    return tuple(group for group in kept if group.rows)


def comparison_table(view: RunView, earlier: Mapping[tuple[str, str], Earlier] | None = None) -> Table:
    """Return the table; ``earlier`` adds the baseline run's cells, by metric and variant."""
    rows = [_row(view, name, earlier or {}) for family in view.families for name in view.names(family)]
    numbers = {text: k + 1 for k, text in enumerate(dict.fromkeys(text for row in rows for text in row.warnings))}
    rows = [replace(row, footnotes=tuple(sorted(numbers[text] for text in row.warnings))) for row in rows]
    main = _groups(view, [row for row in rows if "[" not in row.name])
    further = _groups(view, [row for row in rows if "[" in row.name])
    return Table(main, further, tuple(numbers))


def _groups(view: RunView, rows: Sequence[MetricRow]) -> tuple[Group, ...]:
    groups = []
    for family in view.families:
        found = [row for row in rows if row.name.split(".", 1)[0] == family]
        sizes = Counter(row.units for row in found)
        usual = max(sizes, key=sizes.__getitem__, default="")
        noted = Counter(number for row in found for number in row.footnotes)
        common = tuple(number for number, times in noted.items() if 2 * times > len(found) > 1)
        kept = tuple(
            replace(
                row,
                units="" if row.units == usual else row.units,
                footnotes=tuple(number for number in row.footnotes if number not in common),
            )
            for row in found
        )
        pairs = [f"{variant} {against}" for variant, against in _against(view, found).items()]
        remarks = (*([usual] if usual else []), *pairs)
        groups.append(Group(family, FAMILIES.get(family, sentence_case(family)), kept, remarks, common))
    return tuple(group for group in groups if group.rows)


def _against(view: RunView, rows: Sequence[MetricRow]) -> dict[str, str]:
    """Return what each variant was compared with by fidelity metrics, which all take the same pairs."""
    fidelity = [row.name for row in rows if row.name.startswith("fidelity.")]
    found = {
        variant: view.against_of(name, variant)
        for name in fidelity
        for variant in view.variants
        if (row := view.estimate(name, variant)) and row.value is not None
    }
    return {variant: f"against {other}" for variant, other in found.items() if other}


def _row(view: RunView, name: str, earlier: Mapping[tuple[str, str], Earlier]) -> MetricRow:
    metric = view.summary.metrics[name]
    sizes = sorted({row.n for row in metric.variants.values()})
    values = [(row.value, row.low, row.high) for row in metric.variants.values()]
    compared = [row for variant in view.variants if (row := view.comparison(name, variant))]
    digits = (
        shared_decimals(values, metric.unit),
        shared_decimals([(row.value, row.low, row.high) for row in compared], metric.unit),
    )
    warned = [warning for row in metric.variants.values() for warning in row.warnings]
    warned += [warning for row in compared for warning in row.warnings]
    return MetricRow(
        name=name,
        label=view.label(name) + _suffix(name),
        unit=view.unit(name),
        direction=direction(metric.higher_is_better),
        signature=metric.signature,
        conditions=", ".join(
            f"{key} {value}" for key, value in metric.conditions.items() if not isinstance(value, (dict, list))
        ),
        units="n\u00a0=\u00a0" + "\u00a0to\u00a0".join(plain(float(size), 0) for size in {sizes[0]: 0, sizes[-1]: 0})
        if sizes
        else "",
        cells=tuple(_cell(view, name, variant, earlier.get((name, variant)), digits) for variant in view.variants),
        warnings=tuple(dict.fromkeys(warned)),
    )


def _suffix(name: str) -> str:
    """Return the conditions in brackets of a metric's name, as text."""
    inside = name.partition("[")[2].rstrip("]")
    return f" ({inside.replace('=', ' ').replace(',', ', ')})" if inside else ""


Digits = tuple[int | None, int | None]  # decimals of a row's values and of its differences


def _cell(view: RunView, name: str, variant: str, earlier: Earlier | None, digits: Digits) -> Cell:
    metric, row, compared = view.summary.metrics[name], view.estimate(name, variant), view.comparison(name, variant)
    if row is None or row.value is None:
        return Cell("", earlier=earlier)
    shown = near(digits[0], row.value, row.low, row.high, metric.unit)
    value, interval = amount(row.value, row.low, row.high, unit=metric.unit, digits=shown)
    cell = Cell(value, interval, order=row.value, earlier=earlier)
    if compared is None:
        return replace(cell, change=_quotient(view, name, variant, row) if name.startswith("memory.") else "")
    change, change_interval = difference_text(compared, metric.unit, digits[1])
    return replace(
        cell,
        change=change,
        change_interval=change_interval,
        sign=OUTCOMES[compared.outcome],
        quiet=nothing_to_say(view, compared, metric.unit),
        deciding=deciding(compared),
    )


def _quotient(view: RunView, name: str, variant: str, row: EstimateRow) -> str:
    reference = view.estimate(name, view.reference)
    if variant == view.reference or reference is None or not reference.value or row.value is None:
        return ""
    return ratio(row.value / reference.value)[0]
