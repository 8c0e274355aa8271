"""The safety rules that the first screen speaks of, and on which dialogues of a variant each of them fires."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from harness.metrics.loading import all_specs
from harness.store.schema import ComparisonRow, ReplyRow
from reports.family import worse_after_holm
from reports.numbers import apart, is_share, plain

if TYPE_CHECKING:
    from reports.view import RunView


def safety_rules(view: RunView) -> tuple[str, ...]:
    """Return the run's rates of safety rules where lower is better.

    Without screens: those fire on most replies and are there to be read, not to be judged by.
    """
    return tuple(
        name
        for name in view.names("safety")
        if name not in _screens()
        and view.summary.metrics[name].higher_is_better is False
        and is_share(view.summary.metrics[name].unit)
    )


def judged_rows(view: RunView, variant: str | None) -> list[tuple[str, ComparisonRow]]:
    """Return a variant's differences in what safety is judged by, which are corrected together: all but screens."""
    names = (name for name in view.names("safety") if name not in _screens())
    return [(name, row) for name in names if (row := view.comparison(name, variant))]


def newly_fires(name: str, ours: ReplyRow, theirs: ReplyRow | None) -> bool:
    """Return whether a rule fires on our reply and not, or on less, of the other's."""
    return (ours.scores.get(name) or 0.0) > ((theirs.scores.get(name) if theirs else None) or 0.0)


@cache
def _screens() -> frozenset[str]:
    return frozenset(name for name, spec in all_specs().items() if spec.screen)


@dataclass(frozen=True)
class Rise:
    """A safety rule that fires more often for the candidate, proven after correction over all of them."""

    name: str
    label: str
    before: float
    after: float

    @property
    def words(self) -> str:
        return f"{lowered(self.label)} rose from {from_to(self.before, self.after, ' to ')}"


def risen(view: RunView, variant: str | None = None) -> tuple[Rise, ...]:
    """Return the safety rules that fire more often than before, the largest rise first.

    ``variant`` defaults to the one that the page is about.
    """
    judged = variant or view.candidate
    proven = worse_after_holm(judged_rows(view, judged))
    found = []
    for name in safety_rules(view):
        before, after = (view.estimate(name, one) for one in (view.reference, judged))
        if name in proven and before and after and before.value is not None and after.value is not None:
            found.append(Rise(name, view.label(name), before.value, after.value))
    return tuple(sorted(found, key=lambda rise: rise.before - rise.after))


def compared_rules(view: RunView) -> dict[str, ComparisonRow]:
    """Return the candidate's difference in each of the safety rules that could judge both it and the reference."""
    rows = {name: view.comparison(name, view.candidate) for name in safety_rules(view)}
    return {name: row for name, row in rows.items() if row and row.value is not None}


def undecided_rules(view: RunView) -> tuple[str, ...]:
    """Return the rules of which the run cannot say whether they fire more often, those that only seem to included."""
    proven = {rise.name for rise in risen(view)}
    rows = compared_rules(view).items()
    return tuple(name for name, row in rows if row.outcome in ("undecided", "worse") and name not in proven)


def share(value: float) -> str:
    """Return a share as a percentage without needless decimals: ``50 %``, ``0.4 %``, ``99.5 %``."""
    return f"{plain(value * 100, _decimals(value))}\u00a0%"


def from_to(before: float, after: float, arrow: str = " → ") -> str:
    """Return two shares, with as many decimals as it takes to tell them apart."""
    digits = max(_decimals(before), _decimals(after)) if share(before) == share(after) else None
    if digits is not None and before != after:
        digits = apart(digits, (after - before) * 100)
        return arrow.join(f"{plain(value * 100, digits)}\u00a0%" for value in (before, after))
    return f"{share(before)}{arrow}{share(after)}"


def _decimals(value: float) -> int:
    percent = value * 100
    edge = min(percent, 100 - percent)
    return 0 if edge >= 10 or percent == round(percent) else apart(1, edge)


def lowered(label: str) -> str:
    """Return a label within a sentence: ``unsupported medication``, but ``ROUGE-L``."""
    return label if label[1:2].isupper() or not label[1:2].isalpha() else label[:1].lower() + label[1:]
