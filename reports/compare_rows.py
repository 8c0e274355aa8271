"""Runs side by side as rows of finished text: the metrics of each system, and what differs from the first run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from reports.baseline import earlier_cells, other_data
from reports.cells import Cell, Earlier
from reports.numbers import amount, count
from reports.systems import System, matched
from reports.view import RunView
from reports.words import FAMILIES, direction, sentence_case


@dataclass(frozen=True)
class CompareRow:
    """A metric of one system over all runs. ``earlier`` of each cell is what the first run has of it."""

    label: str
    direction: str
    unit: str
    cells: tuple[Cell, ...]

    @property
    def equal(self) -> bool:
        """Whether it was compared, and every run has the first run's value."""
        held = [cell.same for cell in self.cells if cell.order is not None and cell.earlier]
        return bool(held) and all(held)


@dataclass(frozen=True)
class CompareGroup:
    """One system's metrics of one family."""

    family: str
    rows: tuple[CompareRow, ...]

    @property
    def title(self) -> str:
        return FAMILIES.get(self.family, sentence_case(self.family))


@dataclass(frozen=True)
class ComparedSystem:
    """One system's metrics over all runs. ``basis``: what it is compared with; ``groups`` has no equal rows."""

    system: System
    basis: str
    finding: str
    groups: tuple[CompareGroup, ...]
    equal: tuple[str, ...]

    @property
    def equal_sentence(self) -> str:
        where = "in all runs" if self.system.is_in_first else "to what it is compared with"
        return f"{count(len(self.equal), 'metric')} equal {where}" if self.equal else ""


@dataclass(frozen=True)
class Comparison:
    """Several runs, the first of which is the reference; ``names`` tells them apart."""

    views: tuple[RunView, ...]
    names: tuple[str, ...]

    @cached_property
    def systems(self) -> tuple[System, ...]:
        return matched(self.views)

    @cached_property
    def changes(self) -> tuple[Mapping[tuple[str, str], Earlier], ...]:
        """For each run, what the first run has of each metric and variant."""
        first = self.views[0]
        pairs = [
            {str(one.names[k]): str(one.against[k]) for one in self.systems if one.names[k] and one.against[k]}
            for k in range(len(self.views))
        ]
        found = (earlier_cells(view, first, pair) for view, pair in zip(self.views[1:], pairs[1:], strict=True))
        return {}, *found

    @cached_property
    def compared(self) -> tuple[ComparedSystem, ...]:
        """Every system with its metrics, best first."""
        return tuple(self._compared(system) for system in self.systems)

    def row(self, metric: str, system: System) -> CompareRow:
        """Return a metric of one system over the runs."""
        view = next(view for view in self.views if view.metric(metric))
        cells = zip(self.views, system.names, self.changes, strict=True)
        return CompareRow(
            label=view.label(metric),
            direction=direction(view.summary.metrics[metric].higher_is_better),
            unit=view.unit(metric),
            cells=tuple(_cell(one, name, metric, change) for one, name, change in cells),
        )

    def shared_candidate(self, run: int) -> bool:
        """Return whether the first run has the weights, or the name, of what another run was made for."""
        candidate = self.views[run].candidate
        return any(one.names[run] == candidate and one.against[run] is not None for one in self.systems)

    def obstacle(self, run: int) -> str:
        """Return why a run's dialogues cannot be paired with the first run's; empty if they can."""
        return other_data(self.views[run], self.views[0])

    def _compared(self, system: System) -> ComparedSystem:
        groups, equal = [], []
        for family in dict.fromkeys(family for view in self.views for family in view.families):
            names = dict.fromkeys(name for view in self.views for name in view.names(family) if "[" not in name)
            rows = [self.row(name, system) for name in names]
            rows = [row for row in rows if any(cell.order is not None for cell in row.cells)]
            equal += [row.label for row in rows if row.equal]
            if told := tuple(row for row in rows if not row.equal):
                groups.append(CompareGroup(family, told))
        return ComparedSystem(
            system, self._basis(system), self._finding(system, groups, equal), tuple(groups), tuple(equal)
        )

    def _basis(self, system: System) -> str:
        """Say what a system is compared with, and where there is nothing."""
        first = self.names[0]
        if system.is_in_first:
            return "" if len(system.runs) > 1 else f"only in {first}"
        against = next((name for name in system.against if name), None)
        if against:
            return f"other weights than {against} in {first}, which it is compared with"
        return f"not in {first}, which has no variant of its weights or name: compared with nothing"

    def _finding(self, system: System, groups: Sequence[CompareGroup], equal: Sequence[str]) -> str:
        rows = [row for group in groups for row in group.rows]
        metrics = count(len(rows) + len(equal), "metric")
        held = [cell.earlier for row in rows for cell in row.cells if cell.order is not None and cell.earlier]
        if not held and not equal:
            return f"{metrics}; {self._basis(system)}."
        words = Counter(one.sign.word for one in held if one.sign and not one.quiet)
        told = [f"{number} {word}" for word, number in words.items()]
        told += [f"{len(equal)} equal"] if equal else []
        basis = "against the first run" if system.is_in_first else self._basis(system)
        return f"{metrics}; {basis}: {', '.join(told) or _nothing(held)}."


def _nothing(held: Sequence[Earlier]) -> str:
    """Say why no difference is told."""
    if any(one.sign for one in held):
        return "no clear difference"
    obstacles = dict.fromkeys(one.obstacle for one in held if one.obstacle)
    return f"not comparable ({', '.join(obstacles)})" if obstacles else "values alone, since nothing is paired"


def _cell(view: RunView, name: str | None, metric: str, changes: Mapping[tuple[str, str], Earlier]) -> Cell:
    if name is None:
        return Cell("not in this run")
    row, found = view.estimate(metric, name), view.metric(metric)
    if row is None or row.value is None or found is None:
        return Cell("not measured")
    value, interval = amount(row.value, row.low, row.high, unit=found.unit)
    return Cell(value, interval, order=row.value, earlier=changes.get((metric, name)))
