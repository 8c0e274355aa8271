"""What the candidate's replies gained, lost and newly do wrong against the reference's, dialogue by dialogue."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reports.rules import newly_fires, safety_rules

if TYPE_CHECKING:
    from reports.view import RunView


@dataclass(frozen=True, slots=True)
class Pair:
    """Two replies to the dialogue at ``place``; no texts, which are read again for the few that are shown.

    ``change`` is candidate minus reference, None if the metric's difference excludes the dialogue. ``fires`` are the
    safety rules that newly fire, ``stops`` those that no longer do.
    """

    place: int
    id: str
    change: float | None
    fires: tuple[str, ...]
    stops: tuple[str, ...]


def pairs_of(view: RunView, metric: str | None) -> Iterator[Pair]:
    """Yield a pair for each dialogue with both replies, in run order."""
    if view.candidate is None or view.reference is None:
        return
    candidate, reference = (view.replies.get(name, {}) for name in (view.candidate, view.reference))
    rules = safety_rules(view)
    for place, id in enumerate(view.dialogues.ids):
        ours, theirs = candidate.get(id), reference.get(id)
        if ours is None or theirs is None:
            continue
        mine, other = (None if metric is None else reply.scores.get(metric) for reply in (ours, theirs))
        yield Pair(
            place,
            id,
            None if mine is None or other is None else mine - other,
            tuple(name for name in rules if newly_fires(name, ours, theirs)),
            tuple(name for name in rules if newly_fires(name, theirs, ours)),
        )
