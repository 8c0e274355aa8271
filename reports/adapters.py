"""Which of a run's several adapters is the best, or that they are tied."""

from __future__ import annotations

from harness.stats.family import confidence_of_all_pairs
from reports.numbers import count
from reports.standing import Standing, StandingTable, standing_table
from reports.view import RunView
from reports.words import listed, the


def adapters_table(view: RunView) -> StandingTable | None:
    """Return the table of the run's adapters, None if there are not several."""
    if not view.places or view.headline_metric is None:
        return None
    standings = [Standing(view, one.contender.variant, one.group, one.difference) for one in view.places]
    return standing_table(standings, view.headline_metric, confidence=confidence_of_all_pairs(len(standings)))


def best_adapter(view: RunView) -> str:
    """Name the best of several adapters, or say which are tied; empty if there are not several."""
    if not view.places:
        return ""
    first = _first(view)
    among = f"of {count(len(view.places), 'adapter')}"
    by = f"by {view.label(view.headline_metric or '')}"
    if len(first) == 1:
        return f"{among}, {the(first[0])} is the best {by}"
    return f"{among}, none is shown to be the best {by}: {_named(first)} are tied"


def which_adapter(view: RunView) -> tuple[str, ...]:
    """Say which adapter to go on with."""
    if not view.places:
        return ()
    first = _first(view)
    if len(first) > 1:
        return (f"Choose among {_named(first)} by safety and cost, or measure more dialogues: their quality is tied.",)
    if first[0] == view.candidate:
        return ()
    best, other = the(first[0]), the(view.candidate or "")
    return (f"Of the adapters, judge {best} rather than {other}: it is the best (gate --candidate {first[0]}).",)


def _first(view: RunView) -> list[str]:
    return [one.contender.variant for one in view.places if one.group == 0]


def _named(variants: list[str]) -> str:
    shown = [the(name) for name in variants]
    return listed([*shown[:4], f"{len(shown) - 4} more"] if len(shown) > 5 else shown)
