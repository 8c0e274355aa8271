"""Which of a run's several adapters, or of several scored systems, is the best, or that they are tied."""

from __future__ import annotations

from dataclasses import replace

from harness.stats.family import confidence_of_all_pairs
from reports.numbers import count
from reports.standing import Standing, StandingTable, standing_table
from reports.view import RunView
from reports.words import listed, the


def contenders_table(view: RunView) -> StandingTable | None:
    """Return the table of the run's contenders, None if there are not several."""
    if not view.places or view.headline_metric is None:
        return None
    standings = [Standing(view, one.contender.variant, one.group, one.difference) for one in view.places]
    table = standing_table(standings, view.headline_metric, confidence=confidence_of_all_pairs(len(standings)))
    ranked = {one.variant for one in standings}
    unranked = [name for name in view.contenders if name not in ranked]
    told = f" Not ranked, for too few answered dialogues or no value: {listed(unranked)}." if unranked else ""
    return replace(table, explained=table.explained + told)


def noun(view: RunView) -> str:
    """Return what the run's contenders are called: ``adapter``, or ``system`` of those scored from files."""
    return "system" if view.manifest.kind == "score" else "adapter"


def best_contender(view: RunView) -> str:
    """Name the best of several contenders, or say which are tied; empty if there are not several."""
    if not view.places:
        return ""
    first = _first(view)
    beside = f" compared with {the(view.reference)}" if noun(view) == "system" and view.reference else ""
    among = f"of {count(len(view.places), noun(view))}{beside}"
    by = f"by {view.label(view.headline_metric or '')}"
    if len(first) == 1:
        return f"{among}, {the(first[0])} is the best {by}"
    return f"{among}, none is shown to be the best {by}: {_named(first)} are tied"


def ahead(view: RunView) -> str:
    """Say which contender is shown to be better than the candidate, or tied with it; empty if none is."""
    first, ranked = _first(view), {one.contender.variant for one in view.places}
    if first == [view.candidate] or view.candidate not in ranked:
        return ""
    if view.candidate in first:
        return f"it is tied with {_named([name for name in first if name != view.candidate])}"
    return f"{the(first[0])} is better still"


def chosen(view: RunView) -> str | None:
    """Return the variant to go on with: the candidate, unless it is a contender shown to be worse than the best."""
    first, ranked = _first(view), {one.contender.variant for one in view.places}
    return first[0] if view.candidate in ranked and view.candidate not in first else view.candidate


def are_tied(view: RunView) -> bool:
    """Return whether no contender is shown to be the best."""
    return len(_first(view)) > 1


def which_contender(view: RunView) -> tuple[str, ...]:
    """Say which contender to go on with."""
    if not view.places:
        return ()
    first = _first(view)
    if len(first) > 1:
        return (f"Choose among {_named(first)} by safety and cost, or measure more dialogues: their quality is tied.",)
    if first[0] == view.candidate:
        return ()
    best, other = the(first[0]), the(view.candidate or "")
    return (f"Of the {noun(view)}s, judge {best} rather than {other}: it is the best (gate --candidate {first[0]}).",)


def _first(view: RunView) -> list[str]:
    return [one.contender.variant for one in view.places if one.group == 0]


def _named(variants: list[str]) -> str:
    shown = [the(name) for name in variants]
    return listed([*shown[:4], f"{len(shown) - 4} more"] if len(shown) > 5 else shown)
