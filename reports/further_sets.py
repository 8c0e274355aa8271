"""The further held-out sets of a run on its page: what was lost there, and the differences that were found."""

from __future__ import annotations

from dataclasses import dataclass

from harness.store.schema import ComparisonRow
from reports.differences import difference_text, nothing_to_say
from reports.family import worse_after_holm
from reports.numbers import count, plain
from reports.rules import risen
from reports.view import RunView
from reports.words import OUTCOMES, Sign, listed, the


@dataclass(frozen=True)
class Line:
    """One difference. ``quiet`` says in words that there is no clear one."""

    metric: str
    variant: str
    change: str
    interval: str
    quiet: str
    sign: Sign
    n: str

    @property
    def words(self) -> str:
        """The difference for a line of text: ``nll +0.42 (+0.31 to +0.53) ▼ worse``."""
        found = self.quiet or f"{self.change}{f' ({self.interval})' if self.interval else ''}"
        return f"{self.metric} {found} {self.sign.shape} {self.sign.word}"


@dataclass(frozen=True)
class Row:
    """A metric's differences, in the order of the set's variants; None where it was not compared."""

    metric: str
    lines: tuple[Line | None, ...]


@dataclass(frozen=True)
class FurtherSet:
    """One set. ``page`` is its own page, seen from the run folder; ``present``: whether it is there.

    ``rows`` are the main measures and what any of the ``variants`` lost, ``gains`` the other clear differences, and
    ``quiet`` counts the metrics without one.
    """

    name: str
    dialogues: int
    variants: tuple[str, ...]
    rows: tuple[Row, ...]
    gains: tuple[Row, ...]
    quiet: int
    page: str
    present: bool


def further_sets(view: RunView) -> tuple[FurtherSet, ...]:
    """Return what was found on each further set: clear differences, and those of the main measures in any case."""
    return tuple(_further_set(view.of_set(name)) for name in view.further_sets)


def losses(view: RunView) -> str:
    """Say on which further sets the candidate is proven to be worse than the reference variant, corrected over all.

    Empty if there is none.
    """
    parts = {name: view.of_set(name) for name in view.further_sets}
    rows = {(name, row.metric): row for name, one in parts.items() for row in _main(one)}
    proven = worse_after_holm([(f"{name} {metric}", row) for (name, metric), row in rows.items()])
    told = []
    for name, one in parts.items():
        worse = [
            f"{one.label(metric)} {_with_interval(one, row)}"
            for (of, metric), row in rows.items()
            if of == name and f"{name} {metric}" in proven
        ]
        worse += [rise.words for rise in risen(one)]
        if worse:
            whose = f"{the(str(one.candidate))} does worse than {the(str(one.reference))}"
            told.append(f"on the set {name}, {whose}: {listed(worse)}")
    return "; ".join(told)


def _main(one: RunView) -> list[ComparisonRow]:
    """Return how the candidate differs in closeness to the references, and in their likelihood."""
    return [row for name in one.main_measures if (row := one.comparison(name, one.candidate))]


def _with_interval(one: RunView, row: ComparisonRow) -> str:
    change, interval = difference_text(row, one.summary.metrics[row.metric].unit)
    return f"{change} (95\u00a0% {interval})" if interval else change


def _further_set(one: RunView) -> FurtherSet:
    names = [name for family in one.families for name in one.names(family) if "[" not in name]
    found = {name: [one.comparison(name, variant) for variant in one.variants] for name in names}
    compared = {name: rows for name, rows in found.items() if any(rows)}
    variants = [name for place, name in enumerate(one.variants) if any(rows[place] for rows in compared.values())]
    rows, gains = [], []
    for name, of_each in compared.items():
        lines = [_line(one, row) if row else None for row in of_each]
        told = tuple(line for line, variant in zip(lines, one.variants, strict=True) if variant in variants)
        row = Row(one.label(name), told)
        if name in one.main_measures or any(row and row.outcome == "worse" for row in of_each):
            rows.append(row)
        elif any(line and not line.quiet for line in lines):
            gains.append(row)
    most = max((coverage.dialogues for coverage in one.summary.coverage.values()), default=0)
    return FurtherSet(
        name=one.set,
        dialogues=most,
        variants=tuple(variants),
        rows=tuple(rows),
        gains=tuple(gains),
        quiet=len(compared) - len(rows) - len(gains),
        page=f"sets/{one.set}/report.html",
        present=one.folder.report_path.is_file(),
    )


def _line(one: RunView, row: ComparisonRow) -> Line:
    unit = one.summary.metrics[row.metric].unit
    change, interval = difference_text(row, unit)
    return Line(
        metric=one.label(row.metric),
        variant=row.variant,
        change=change,
        interval=interval,
        quiet=nothing_to_say(one, row, unit),
        sign=OUTCOMES[row.outcome],
        n=plain(float(row.n), 0),
    )


def set_lines(view: RunView) -> tuple[str, ...]:
    """Return what was found of the candidate, in a line of text for each set: the main measures and what was lost."""
    told = []
    for one in further_sets(view):
        its = [line.words for row in one.rows for line in row.lines if line and line.variant == view.candidate]
        told.append(
            f"On the set {one.name}, {count(one.dialogues, 'dialogue')}, {view.candidate} against {view.reference}: "
            f"{'; '.join(its) or 'nothing was compared'}. More: {one.page}"
        )
    return tuple(told)
