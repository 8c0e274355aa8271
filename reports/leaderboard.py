"""The leaderboard as text, as one HTML page and as CSV. All of it may come from anyone's run folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.leaderboard.board import Board, Entry, Ranked
from harness.leaderboard.find import Apart, FoundRun
from harness.leaderboard.machines import machines
from harness.store.indexed import RowSequence
from reports.numbers import count
from reports.render import render_page
from reports.standing import Standing, StandingTable, compares_safety, standing_table
from reports.tables import csv_text
from reports.view import RunView
from reports.words import listed

SHOWN = 6  # names that are told with one reason, and notes on variants in a terminal
_RUN = ("group", "variant", "run", "finished", "also_in")
_FACTS = ("kind", "quantization", "model", "base_digest", "adapter_digest", "model_digest")
_DIFFERENCE = ("value", "low", "high", "n", "outcome")
_INTERVAL = ("value", "low", "high", "n")


@dataclass(frozen=True)
class Leaderboard:
    """The leaderboard as finished text. ``left_out`` has a reason and the names that it applies to, in each line.

    ``folded`` says for which others an entry stands, which the page's table says itself.
    """

    title: str
    lead: str
    table: StandingTable
    machines: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...]
    folded: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What a terminal prints below the table."""
        rows = [row for _, members in self.table.groups for row in members]
        safety = [f"{row.name}: {figure.told}." for row in rows for figure in row.figures if figure.told]
        titles = [f"{title}." for title, _ in self.table.groups]
        apart = [f"{which}: {why}" for which, why in self.left_out]
        told = (_few(lines) for lines in (self.folded, self.table.faults, safety))
        return (
            *titles,
            self.table.explained,
            *(line for lines in told for line in lines),
            *self.machines,
            *_few(apart),
        )


def leaderboard_text(board: Board) -> Leaderboard:
    """Return the leaderboard's sentences and its table."""
    standings = _standings(board)
    table = standing_table(standings, board.metric, likelihood=board.likelihood, confidence=board.confidence)
    runs, variants = count(len(board.runs), "run"), count(len(standings), "variant")
    return Leaderboard(
        title=f"{variants} of {runs} by {table.heads[0].label}",
        lead=f"All were asked the same {count(board.dialogues, 'dialogue')}. {_first(standings, board.metric)}",
        table=table,
        machines=_machines(board),
        left_out=(*_by_reason(board.unranked), *_by_reason(board.apart)),
        folded=tuple(
            f"{_named(one)} stands for {listed(list(one.also))} too: the same weights gave the same replies."
            for one in standings
            if one.also
        ),
    )


def leaderboard_page(board: Board) -> str:
    """Return the leaderboard as one HTML document."""
    return render_page("leaderboard.html", {"board": leaderboard_text(board)})


def leaderboard_csv(board: Board) -> str:
    """Return a row per variant: its group, its difference to the best, and every metric with its interval's ends."""
    metrics = dict.fromkeys(
        name
        for run in board.runs
        for name, found in run.summary.metrics.items()
        if "[" not in name and any(row.value is not None for row in found.variants.values())
    )
    marks = machines(board.runs)
    ends = [f"{name}.{end}" for name in metrics for end in _INTERVAL]
    rows: list[Sequence[object]] = [
        (*_RUN, *_FACTS, *(f"difference.{key}" for key in _DIFFERENCE), "difference.confidence", "measured_on", *ends)
    ]
    for one in board.ranked:
        facts, run = one.entry.facts, one.entry.run
        known = (None if facts.get(key) is None else str(facts[key]) for key in _FACTS)
        compared = [getattr(one.difference, key, None) for key in _DIFFERENCE]
        estimates = [one.entry.estimate(name) for name in metrics]
        values = [getattr(row, end, None) for row in estimates for end in _INTERVAL]
        machine = marks[run].words if run in marks else None
        mine = (one.group + 1, one.entry.variant, run.name, run.when, ", ".join(one.entry.also), *known)
        rows.append((*mine, *compared, board.confidence if one.difference else None, machine, *values))
    return csv_text(rows)


def _standings(board: Board) -> list[Standing]:
    marks = machines(board.runs)
    views = {run: _view(run) for run in board.runs}

    def standing(entry: Entry, one: Ranked, compared: Standing | None = None) -> Standing:
        return Standing(
            view=views[entry.run],
            variant=entry.variant,
            group=one.group,
            difference=one.difference,
            run=entry.run.name,
            when=entry.run.when[:10],
            also=entry.also,
            mark=marks[entry.run].mark if entry.run in marks else "",
            compared=compared,
        )

    def judged(entry: Entry) -> Entry:
        found = (one for one in entry.compared if compares_safety(views[one.run], one.variant))
        return next(found, entry)

    return [
        standing(one.entry, one, None if (other := judged(one.entry)) is one.entry else standing(other, one))
        for one in board.ranked
    ]


def _view(run: FoundRun) -> RunView:
    """Return the run as tables see it; no dialogue or reply is shown."""
    return RunView(run.folder, run.manifest, run.summary, dialogues=RowSequence({}), replies={}, gate=None)


def _first(standings: Sequence[Standing], metric: str) -> str:
    """Name the best, and those that are tied with it."""
    first, *rest = [one for one in standings if one.group == 0]
    if not rest:
        return f"{_named(first)} is the best." if len(standings) > 1 else ""
    best = _value(first, metric)
    equal = [first, *(one for one in rest if _value(one, metric) == best)]
    if len(equal) == len(standings):
        return "All have the same value."
    if all(one.difference.low is None for one in standings if one.difference):
        return "They allow no interval of any difference, so everything is tied."
    leads = f"{_few_named(equal)} {'have' if equal[1:] else 'has'} the best value"
    tied = [one for one in rest if one not in equal]
    if not tied:
        return f"{leads}."
    verb, them = "is" if len(tied) == 1 else "are", "them" if equal[1:] else "it"
    return f"{leads}; {_few_named(tied)} {verb} tied with {them}: not shown to be worse."


def _named(one: Standing) -> str:
    return f"{one.variant} ({one.run})"


def _few_named(standings: Sequence[Standing]) -> str:
    names = [_named(one) for one in standings]
    return listed([*names[:3], f"{len(names) - 3} more"] if len(names) > 4 else names)


def _value(one: Standing, metric: str) -> float | None:
    found = one.view.estimate(metric, one.variant)
    return found.value if found else None


def _machines(board: Board) -> tuple[str, ...]:
    """Say where times and memory were measured, if not all in the same place."""
    found = {one.mark: one.words for one in machines(board.runs).values() if one.mark}
    if not found:
        return ()
    known = [f"{mark} is {words}" for mark, words in found.items()]
    return (f"Times and memory: {'; '.join(known)}. Only those with the same letter can be compared.",)


def _few(lines: Sequence[str]) -> list[str]:
    """Return the first lines; a page has all."""
    more = len(lines) - SHOWN
    return [*lines[:SHOWN], f"… and {more} more; --out FILE.html has them all."] if more > 1 else list(lines)


def _by_reason(apart: Sequence[Apart]) -> tuple[tuple[str, str], ...]:
    names: dict[str, list[str]] = {}
    for one in apart:
        names.setdefault(one.reason, []).append(one.name)
    return tuple(
        (", ".join([*found[:SHOWN], *([f"{len(found) - SHOWN} more"] if len(found) > SHOWN else [])]), reason)
        for reason, found in names.items()
    )
