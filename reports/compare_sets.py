"""The further held-out sets of two runs side by side, a line for each: what changed there, or which run lacks it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from harness.store.folder import RunFolder
from reports.cells import Earlier
from reports.compare_rows import Comparison
from reports.next_command import PROGRAM
from reports.numbers import count
from reports.view import LIKELIHOOD, OVERLAP, RunView, read_view


@dataclass(frozen=True)
class SetLine:
    """What is said of one set; ``command`` compares the two runs on it alone, and is empty where one lacks it."""

    words: str
    command: str = ""


def set_lines(found: Comparison, run: int) -> tuple[SetLine, ...]:
    """Return a line for each set that one of a run and the first run has besides its first set.

    It tells the candidate's change since the first run: of the main measures, and whatever else got worse.
    """
    return tuple(_lines(found, run))


def without_unshared_sets(before: RunView, after: RunView) -> tuple[Mapping[str, object], Mapping[str, object]]:
    """Return both configs without the settings of sets that are not further ones of both.

    Those of the first set are the config's own, and a set that only one run has is told in a line.
    """
    shared = set(before.manifest.sets[1:]) & set(after.manifest.sets[1:])
    one, other = (_with_sets(view, shared) for view in (before, after))
    return one, other


def _with_sets(view: RunView, names: set[str]) -> Mapping[str, object]:
    config = view.manifest.config
    return {**config, "sets": {name: config["sets"][name] for name in view.manifest.sets if name in names}}


def _lines(found: Comparison, run: int) -> Iterator[SetLine]:
    views, names = (found.views[0], found.views[run]), (found.names[0], found.names[run])
    places = tuple(_folders(view) for view in views)
    for name in dict.fromkeys(name for view in views for name in view.manifest.sets[1:]):
        having = [of for of, place in zip(names, places, strict=True) if name in place]
        if len(having) == 1:
            yield SetLine(f"Set {name}: only in {having[0]}.")
            continue
        then, now = (place[name] for place in places)
        lacking = [of for of, one in zip(names, (then, now), strict=True) if not one.summary_path.is_file()]
        if lacking:
            yield SetLine(f"Set {name}: {' and '.join(lacking)} lacks its summary.json, so it is not compared.")
            continue
        roots = " ".join(shlex.quote(str(one.root)) for one in (then, now))
        pair = Comparison((read_view(then), read_view(now)), names)
        yield SetLine(_change(name, pair, views[1].candidate), f"{PROGRAM} compare {roots}")


def _folders(view: RunView) -> dict[str, RunFolder]:
    """Return where each set of a run is; the first is the run folder itself."""
    first = view.manifest.sets[:1]
    return {**dict.fromkeys(first, view.folder), **view.folder.further_sets()}


def _change(name: str, pair: Comparison, candidate: str | None) -> str:
    now = pair.views[1]
    where = f"Set {name} against {pair.names[0]}, {count(len(now.dialogues), 'dialogue')}"
    if obstacle := pair.obstacle(1):
        return f"{where}: not comparable ({obstacle})."
    if not any(one.names[1] == candidate and one.against[1] is not None for one in pair.systems):
        return f"{where}: no candidate in common."
    main = [found for known in (OVERLAP, LIKELIHOOD) if (found := now.measured(known))]
    told = [
        _told(now.label(metric), cell)
        for (metric, variant), cell in pair.changes[1].items()
        if variant == candidate and "[" not in metric and cell.sign and (metric in main or _is_worse(cell))
    ]
    return f"{where}, {candidate}: {'; '.join(told) or 'nothing was compared'}."


def _is_worse(cell: Earlier) -> bool:
    return cell.sign is not None and cell.sign.word == "worse" and not cell.quiet


def _told(label: str, cell: Earlier) -> str:
    if cell.quiet or not cell.sign:
        return f"{label} {cell.quiet or cell.change}"
    interval = f" ({cell.interval})" if cell.interval else ""
    return f"{label} {cell.change}{interval} {cell.sign.shape} {cell.sign.word}"
