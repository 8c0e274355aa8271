"""Coverage as text: how many dialogues each variant answered, the share with its interval, and the reasons."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from harness.leaderboard.standing import MIN_COVERAGE
from harness.store.schema import Coverage
from reports.numbers import count, plain
from reports.view import RunView
from reports.words import listed, the


@dataclass(frozen=True)
class CoverageCell:
    """One variant's coverage as formatted text. ``share`` and ``interval`` are empty if the run has no dialogues."""

    variant: str
    answered: str
    share: str
    interval: str
    skipped: str
    absent: tuple[str, ...] = ()  # what was asked for and not measured, with the reason

    @property
    def brief(self) -> str:
        return f"{self.share} ({self.answered})" if self.share else self.answered


def coverage_cells(view: RunView) -> tuple[CoverageCell, ...]:
    """Return the coverage of every variant that has one, in the order of the page."""
    found = view.summary.coverage
    return tuple(_cell(variant, found[variant]) for variant in view.variants if variant in found)


def coverage_sentences(view: RunView) -> tuple[str, ...]:
    """Return how many dialogues were answered and what was not measured, once for all variants that share it."""
    cells = coverage_cells(view)
    answered: dict[str, list[str]] = defaultdict(list)
    absent: dict[str, list[str]] = defaultdict(list)
    for one in cells:
        share = f" ({one.share}, 95 % interval {one.interval})" if one.interval else ""
        left_out = f"; left out – {one.skipped}" if one.skipped != "none" else ""
        answered[f"{one.answered} dialogues{share}{left_out}"].append(one.variant)
        for what in one.absent:
            absent[what].append(one.variant)
    told = [f"{_who(names, len(cells))} answered {fact}." for fact, names in answered.items()]
    return (*told, *(f"Not measured of {listed(names)}: {what}." for what, names in absent.items()))


def uneven(view: RunView) -> str:
    """Say which of candidate and reference answered too few of the other's dialogues to be compared with it, if any."""
    found = [(name, view.summary.coverage.get(name)) for name in (view.candidate, view.reference) if name]
    known = sorted(((one.answered, name) for name, one in found if one), key=lambda pair: pair[0])
    if len(known) < 2 or known[0][0] >= MIN_COVERAGE * known[1][0]:
        return ""
    (few, less), (many, more) = known
    return f"{the(less)} answered only {count(few, 'dialogue')} where {the(more)} answered {plain(float(many), 0)}"


def _who(names: list[str], number: int) -> str:
    return "Each variant" if 1 < number == len(names) else listed(names)


def _cell(variant: str, coverage: Coverage) -> CoverageCell:
    counts = [f"{reason}: {number}" for reason, number in coverage.skipped.items()]
    counts += [f"answered but not scored, {reason}: {number}" for reason, number in coverage.not_scored.items()]
    skipped = "; ".join(counts) or "none"
    answered = f"{plain(float(coverage.answered), 0)} of {plain(float(coverage.dialogues), 0)}"
    return CoverageCell(
        variant=variant,
        answered=answered,
        share=_percent(coverage.value),
        interval=f"{_percent(coverage.low)} to {_percent(coverage.high)}" if coverage.low is not None else "",
        skipped=skipped,
        absent=tuple(f"{name}: {why}" for name, why in coverage.not_measured.items()),
    )


def _percent(share: float | None) -> str:
    return "" if share is None else f"{plain(100 * share, 1)}\u202f%"
