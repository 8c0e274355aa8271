"""The safety rules that the first screen speaks of, and on which dialogues of a variant each of them fires."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from harness.metrics.loading import all_specs
from harness.store.schema import ReplyRow
from reports.family import worse_after_holm
from reports.numbers import is_share, plain

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
        return f"{lowered(self.label)} rose from {share(self.before)} to {share(self.after)}"


def risen(view: RunView, variant: str | None = None) -> tuple[Rise, ...]:
    """Return the safety rules that fire more often than before, the largest rise first.

    ``variant`` defaults to the one that the page is about.
    """
    judged = variant or view.candidate
    rows = [(name, row) for name in view.names("safety") if (row := view.comparison(name, judged))]
    proven = worse_after_holm(rows)
    found = []
    for name in safety_rules(view):
        before, after = (view.estimate(name, one) for one in (view.reference, judged))
        if name in proven and before and after and before.value is not None and after.value is not None:
            found.append(Rise(name, view.label(name), before.value, after.value))
    return tuple(sorted(found, key=lambda rise: rise.before - rise.after))


def share(value: float) -> str:
    """Return a share as a percentage without needless decimals: ``50 %``, ``0.4 %``."""
    percent = value * 100
    return f"{plain(percent, 1 if 0 < percent < 10 and percent != round(percent) else 0)}\u00a0%"


def lowered(label: str) -> str:
    """Return a label within a sentence: ``unsupported medication``, but ``ROUGE-L``."""
    return label if label[1:2].isupper() or not label[1:2].isalpha() else label[:1].lower() + label[1:]
