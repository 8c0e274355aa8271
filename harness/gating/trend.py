"""How a baseline moved: its accepted runs in order, and every gated metric over them with its change each time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from harness.errors import HarnessError, InputError, did_you_mean
from harness.gating.accepted import measured
from harness.stats.unpaired import difference_of_intervals
from harness.store.acceptance import Acceptance, AcceptedChange, AcceptedMetric
from harness.store.baselines import Baselines
from harness.store.seals import numbers_digest

OTHER_DIALOGUES = "The runs asked different dialogues."
NOT_COMPARED = ("latency", "memory")  # their recorded values do not say on which machine


@dataclass(frozen=True)
class Point:
    """A metric in one accepted run, and its change since the run before.

    ``unpaired``: the change is from the recorded values alone, so its interval is wider than a paired one. ``obstacle``
    says why two values that are there were not compared.
    """

    found: AcceptedMetric
    change: AcceptedChange | None = None
    unpaired: bool = False
    obstacle: str = ""

    @property
    def outcome(self) -> str:
        """``better``, ``worse`` or another outcome of the change; empty without one."""
        return self.change.outcome if self.change and self.change.value is not None else ""


@dataclass(frozen=True)
class Line:
    """A metric over the accepted runs, of the candidate or of another variant. None: not recorded for that run."""

    points: tuple[Point | None, ...]

    @property
    def newest(self) -> AcceptedMetric:
        return next(point.found for point in reversed(self.points) if point)

    @property
    def variants(self) -> tuple[str, ...]:
        """The names of the variant that was measured: candidates may have a new one in each run."""
        return tuple(dict.fromkeys(point.found.variant for point in self.points if point))


@dataclass(frozen=True)
class Trend:
    """The accepted runs of one baseline, oldest first. ``changed[k]``: run k asked other dialogues than the one before.

    It is None where that is not known.
    """

    name: str
    runs: tuple[Acceptance, ...]
    changed: tuple[bool | None, ...]
    lines: tuple[Line, ...]


def trend(store: Baselines, name: str) -> Trend:
    """Return the history of a baseline, whose folder need not exist any more; raise InputError if it has none."""
    history = store.history()
    runs = tuple(note for note in history if note.name == name)
    if not runs:
        store.accepted(name)  # raises for an unknown name
        raise InputError(f"{store.root} has no history of the baseline '{name}'.{did_you_mean(name, _names(history))}")
    runs = (*runs[:-1], _completed(store, runs[-1]))
    keys = dict.fromkeys(_key(note, row) for note in reversed(runs) for row in _rows(note))
    changed = (None, *(_other(before.references_digest, now.references_digest) for before, now in pairwise(runs)))
    return Trend(name, runs, changed, tuple(_line(runs, key) for key in keys))


def _completed(store: Baselines, newest: Acceptance) -> Acceptance:
    """Return the newest acceptance with the values that its run still has, where an earlier version recorded none."""
    if newest.measured is not None or newest.name not in store.names():
        return newest
    folder = store.accepted(newest.name)
    if newest.numbers_digest not in (None, numbers_digest(folder)):
        return newest
    try:
        return newest.model_copy(update={"measured": measured(folder, None)})
    except HarnessError:  # the rest of the history can still be shown
        return newest


def _names(history: Sequence[Acceptance]) -> list[str]:
    return list(dict.fromkeys(note.name for note in history))


def _rows(note: Acceptance) -> tuple[AcceptedMetric, ...]:
    return note.measured.metrics if note.measured else ()


def _key(note: Acceptance, row: AcceptedMetric) -> tuple[str, str, str]:
    """Return what is followed from run to run: a metric of the candidate, whatever its name, or of a named variant."""
    whose = "" if note.measured and row.variant == note.measured.candidate else row.variant
    return row.set or "", row.metric, whose


def _other(before: str | None, now: str | None) -> bool | None:
    return None if before is None or now is None else before != now


def _line(runs: Sequence[Acceptance], key: tuple[str, str, str]) -> Line:
    found = [next((row for row in _rows(note) if _key(note, row) == key), None) for note in runs]
    points = [Point(found[0]) if found[0] else None]
    for (before, now), (was, row) in zip(pairwise(runs), pairwise(found), strict=True):
        points.append(_point(before, now, was, row) if row else None)
    return Line(tuple(points))


def _point(before: Acceptance, now: Acceptance, was: AcceptedMetric | None, row: AcceptedMetric) -> Point:
    if row.set is None and _other(before.references_digest, now.references_digest):
        return Point(row, obstacle=OTHER_DIALOGUES)
    replaced_it = now.replaced is not None and before.numbers_digest in (None, now.replaced)
    if row.change is not None and replaced_it:
        return Point(row, None if row.change.obstacle else row.change, obstacle=row.change.obstacle)
    if was is None or was.value is None or row.value is None:
        return Point(row)
    if obstacle := _obstacle(before, now, was, row):
        return Point(row, obstacle=obstacle)
    change = _unpaired(was, row)
    return Point(row, change, unpaired=change is not None)


def _obstacle(before: Acceptance, now: Acceptance, was: AcceptedMetric, row: AcceptedMetric) -> str:
    """Return why the recorded values of two runs may not be compared; empty if they may."""
    if row.set is not None:
        return "Further sets are compared only while both runs are there."
    if _other(before.references_digest, now.references_digest) is not False:
        return "The dialogues of the run before are not recorded."
    if _other(before.prompts_digest, now.prompts_digest) is not False:
        return "The runs asked with different prompts."
    if (was.signature, was.unit) != (row.signature, row.unit):
        return "The runs measured it differently."
    family = row.metric.partition(".")[0]
    return f"{family.capitalize()} is compared only while both runs are there." if family in NOT_COMPARED else ""


def _unpaired(was: AcceptedMetric, row: AcceptedMetric) -> AcceptedChange | None:
    ends = (row.value, row.low, row.high, was.value, was.low, was.high)
    numbers = [end for end in ends if end is not None]
    if len(numbers) < len(ends):
        return None
    value, low, high = difference_of_intervals(*numbers)
    clear = not low <= 0 <= high
    if row.higher_is_better is None:
        outcome = "different" if clear else "undecided"
    else:
        outcome = "undecided" if not clear else "better" if (value > 0) is row.higher_is_better else "worse"
    return AcceptedChange.model_validate({"value": value, "low": low, "high": high, "outcome": outcome})
