"""Which of several systems lead by one metric: groups, not ranks that the data do not support.

The system with the best value is compared with each of the others, over the dialogues that both have. Those that are
not shown to be worse form the first group with it. The best of the rest then leads the second group, and so on. All
intervals are corrected for all pairs (``stats.family``), so the chance that any system is placed in a group below one
that it is as good as is at most 5 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.errors import InputError
from harness.gating.policy import Defaults
from harness.results.analysis import Analysis
from harness.stats.family import confidence_of_all_pairs
from harness.stats.types import Difference

# Of the dialogues that any contender answered, as in the gate: skipping the hard ones must not win.
MIN_COVERAGE = Defaults().min_coverage


@dataclass(frozen=True)
class Contender:
    """One variant of one run, with its value of the metric."""

    analysis: Analysis
    variant: str
    value: float


@dataclass(frozen=True)
class Place:
    """Where a contender stands: ``group`` 0 is the first.

    ``difference`` is the contender minus the best of all, None for that one; its interval has the corrected confidence.
    """

    contender: Contender
    group: int
    difference: Difference | None


def stand(contenders: Sequence[Contender], metric: str) -> tuple[Place, ...]:
    """Return each contender's place, by group and within it by value, the best first.

    Raises InputError for a metric of which neither direction is better.
    """
    if not contenders:
        return ()
    direction = contenders[0].analysis.measured.spec(metric).higher_is_better
    if direction is None:
        raise InputError(f"{metric} has no better direction, so nothing can be ranked by it.")
    waiting = sorted(contenders, key=lambda one: one.value, reverse=direction)
    confidence = confidence_of_all_pairs(len(waiting))
    from_best: dict[Contender, Difference] = {}
    places: list[Place] = []
    group = 0
    while waiting:
        leader, *others = waiting
        found = [(one, _compare(one, leader, metric, confidence)) for one in others]
        if not places:
            from_best = dict(found)
        tied = [leader, *(one for one, difference in found if difference.outcome != "worse")]
        places += [Place(one, group, from_best.get(one)) for one in tied]
        waiting = [one for one, difference in found if difference.outcome == "worse"]
        group += 1
    return tuple(places)


def _compare(one: Contender, other: Contender, metric: str, confidence: float) -> Difference:
    apart = None if other.analysis is one.analysis else other.analysis
    return one.analysis.difference(metric, one.variant, other.variant, other=apart, confidence=confidence)
