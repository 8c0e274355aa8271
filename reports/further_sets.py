"""The further held-out sets of a run on its page: what was lost there, and the differences that were found."""

from __future__ import annotations

from dataclasses import dataclass

from harness.store.schema import ComparisonRow
from reports.differences import difference_text, nothing_to_say
from reports.family import worse_after_holm
from reports.numbers import count, plain
from reports.rules import risen
from reports.view import LIKELIHOOD, OVERLAP, RunView
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
class FurtherSet:
    """One set. ``page`` is its own page, seen from the run folder; ``quiet`` counts what is not in ``lines``.

    ``present``: whether the page is there.
    """

    name: str
    dialogues: int
    lines: tuple[Line, ...]
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
    names = [name for name in (one.measured(OVERLAP), one.measured(LIKELIHOOD)) if name]
    return [row for name in names if (row := one.comparison(name, one.candidate))]


def _with_interval(one: RunView, row: ComparisonRow) -> str:
    change, interval = difference_text(row, one.summary.metrics[row.metric].unit)
    return f"{change} (95\u00a0% {interval})" if interval else change


def _further_set(one: RunView) -> FurtherSet:
    main = {name for name in (one.measured(OVERLAP), one.measured(LIKELIHOOD)) if name}
    rows = [
        row
        for family in one.families
        for name in one.names(family)
        for variant in one.variants
        if "[" not in name and (row := one.comparison(name, variant))
    ]
    lines = [(_line(one, row), row.metric) for row in rows]
    told = tuple(line for line, metric in lines if metric in main or not line.quiet)
    most = max((coverage.dialogues for coverage in one.summary.coverage.values()), default=0)
    page = f"sets/{one.set}/report.html"
    return FurtherSet(one.set, most, told, len(lines) - len(told), page, one.folder.report_path.is_file())


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
    """Return what was found of the candidate, in a line of text for each set."""
    return tuple(
        f"On the set {one.name}, {count(one.dialogues, 'dialogue')}, {view.candidate} against {view.reference}: "
        f"{'; '.join(line.words for line in one.lines if line.variant == view.candidate) or 'nothing was compared'}. "
        f"More: {one.page}"
        for one in further_sets(view)
    )
