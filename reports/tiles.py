"""The tiles of the first screen: quality, safety, form, fidelity, latency and memory, each with its worst figure.

A tile shows what would stop a release before what would not. What was not measured is said, quietly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.leaderboard.standing import MIN_COVERAGE
from harness.results.memory_fits import Fit
from harness.store.schema import ComparisonRow
from reports.form_sentence import FAULTS, MEANINGLESS, Fault, faults_of, form_faults, grown
from reports.numbers import amount, brief, is_share, plain, ratio
from reports.rules import compared_rules, from_to, lowered, risen, safety_rules, share, undecided_rules
from reports.verdict_sentence import FEW, KEEPS, merge_kept
from reports.view import MEMORY, TIME, RunView
from reports.words import OUTCOMES, Sign, sentence_case

_UNDECIDED, _WORSE = OUTCOMES["undecided"], OUTCOMES["worse"]
# What is found of a server's claim, the worst first.
_CLAIMS: Mapping[str, tuple[str, Sign]] = {
    "other": ("something else", Sign("not what it claims", "✕", "worse")),
    "unknown": ("differs", _UNDECIDED),
    "near-ties": ("near-ties only", Sign("as claimed", "✓", "better")),
    "same": ("the same", Sign("as claimed", "✓", "better")),
}


@dataclass(frozen=True)
class Tile:
    """One area. ``value`` is printed large; it is empty if the area was not measured, and ``detail`` says so."""

    title: str
    value: str
    detail: str
    sign: Sign | None = None


def tiles(view: RunView, fits: Sequence[Fit] = ()) -> tuple[Tile, ...]:
    """Return the six tiles of the candidate, in order. ``fits``: the card table of ``memory.json``."""
    return (_quality(view), _safety(view), _form(view), _fidelity(view), _latency(view), _memory(view, fits))


def _quality(view: RunView) -> Tile:
    title = "Quality"
    names = view.main_measures
    rows = [row for name in names if (row := view.comparison(name, view.candidate)) and row.value is not None]
    if not rows:
        known = [(name, value) for name in names if (value := _value(view, name, _judged(view))) is not None]
        if not known:
            return Tile(title, "", "not measured")
        name, value = known[0]
        return Tile(title, _figure(view, name, value), f"{view.label(name)}, compared with nothing")
    first = rows[0]
    detail = f"{view.label(first.metric)}{_from_to(view, first)}"
    detail += "".join(f"; {view.label(row.metric)} {_change(view, row)} ({row.outcome})" for row in rows[1:])
    return Tile(title, _change(view, first), detail, _sign_of_quality(view, rows))


def _sign_of_quality(view: RunView, rows: Sequence[ComparisonRow]) -> Sign:
    if view.reference and form_faults(view, view.reference, MEANINGLESS):
        return Sign("says little", "○", "neutral")
    if {"better", "worse"} <= {row.outcome for row in rows}:
        return Sign("mixed", "◇", "undecided")
    return OUTCOMES[rows[0].outcome]


def _safety(view: RunView) -> Tile:
    title, names = "Safety rules", safety_rules(view)
    failed = {
        check.metric
        for check in view.checks
        if check.verdict == "fail" and check.decides and check.metric in names and check.candidate == _judged(view)
    }
    rises = [rise.name for rise in risen(view)]
    values = {name: value for name in names if (value := _value(view, name, _judged(view))) is not None}
    if not values:
        return Tile(title, "", "not measured")
    worst = next((name for name in [*rises, *names] if name in failed), rises[0] if rises else None)
    if worst is not None and worst in values:
        others = len({*rises, *failed} - {worst})
        more = f", and {others} more" if others else ""
        word = Sign("fails its check", "✕", "worse") if worst in failed else _WORSE
        return Tile(title, _before_after(view, worst, values[worst]), f"{_rule(view, worst)}{more}", word)
    rows = {name: row for name, row in compared_rules(view).items() if name in values}
    if not rows:
        most = max(values, key=lambda name: values[name])
        return Tile(title, share(values[most]), f"{_rule(view, most)}, compared with nothing")
    shown = max(rows, key=lambda name: (rows[name].value or 0.0, values[name]))
    undecided = len(undecided_rules(view))
    open_ones = f"; {undecided} of {len(rows)} rules undecided" if undecided else "; no rule fires more often"
    sign = _UNDECIDED if undecided else OUTCOMES[rows[shown].outcome]
    return Tile(title, _before_after(view, shown, values[shown]), f"{_rule(view, shown)}{open_ones}", sign)


def _rule(view: RunView, name: str) -> str:
    """Name a rule, with the number of dialogues that it could judge where these are few."""
    row = view.estimate(name, _judged(view))
    return lowered(view.label(name)) + (f" (n\u00a0=\u00a0{row.n})" if row and row.n < FEW else "")


def _before_after(view: RunView, name: str, after: float) -> str:
    before = None if view.reference == view.candidate else _value(view, name, view.reference)
    return share(after) if before is None else from_to(before, after)


def _form(view: RunView) -> Tile:
    title, judged = "Form", _judged(view)
    rates = [(fault, value) for fault in FAULTS if (value := _value(view, fault.metric, judged)) is not None]
    if not rates or judged is None:
        return Tile(title, "", "not measured")
    if found := faults_of(view, judged):
        worst = max(found, key=lambda fault: _value(view, fault.metric, judged) or 0.0)
        more = f", and {len(found) - 1} more" if len(found) > 1 else ""
        sign = _WORSE if worst.metric in grown(view, judged) else Sign("high", "✕", "worse")
        return Tile(title, share(_value(view, worst.metric, judged) or 0.0), f"{_named(view, worst)}{more}", sign)
    fault, highest = max(rates, key=lambda pair: pair[1])
    detail = f"highest: {_named(view, fault)}, {share(highest)}" if highest else "no fault found"
    return Tile(title, "in order", detail)


def _named(view: RunView, fault: Fault) -> str:
    return lowered(view.label(fault.metric))


def _fidelity(view: RunView) -> Tile:
    title, kept = "Fidelity", merge_kept(view)
    claim = min(view.summary.identities, key=lambda one: list(_CLAIMS).index(one.finding), default=None)
    if claim is not None and (kept is None or claim.finding in ("other", "unknown")):
        shown, mark = _CLAIMS[claim.finding]
        return Tile(title, shown, f"{claim.variant}, which should be {claim.claimed}; see below", mark)
    if kept is not None:
        low = kept.value if kept.low is None else kept.low
        high = kept.value if kept.high is None else kept.high
        sign = Sign("kept", "✓", "better") if low >= KEEPS else OUTCOMES["undecided" if high >= KEEPS else "worse"]
        ends = plain(low * 100, 0), plain(high * 100, 0)
        bounds = "" if ends[0] == ends[1] else f" ({ends[0]} to {ends[1]}\u00a0%)"
        return Tile(title, f"{plain(kept.value * 100, 0)}\u00a0%", f"of the nll gain is kept by merging{bounds}", sign)
    for name in ("fidelity.top1_agreement", "fidelity.kl"):
        for variant in (view.merged, view.candidate, *view.variants):
            value = _value(view, name, variant)
            if value is not None and variant:
                against = view.against_of(name, variant)
                pair = f", {variant}" + (f" against {against}" if against else "")
                return Tile(title, _figure(view, name, value), f"{view.label(name)}{pair}")
    merged = any(view.kind(variant) == "merged" for variant in view.variants)
    return Tile(title, "", "not measured" if merged else "no merged variant in this run")


def _latency(view: RunView) -> Tile:
    title, name = "Latency", view.measured(TIME)
    if (name is None or _value(view, name, _judged(view)) is None) and (served := _at_server(view)):
        return Tile(title, _figure(view, served, _value(view, served, _judged(view)) or 0.0), view.label(served))
    if name is None:
        return Tile(title, "", "not measured")
    row = view.comparison(name, view.candidate)
    if row is None or row.value is None:
        known = _value(view, name, _judged(view))
        if known is None:
            return Tile(title, "", f"not measured for {_judged(view)}")
        return Tile(title, _figure(view, name, known), view.label(name))
    return Tile(title, _change(view, row), f"{view.label(name)}{_from_to(view, row)}", OUTCOMES[row.outcome])


def _at_server(view: RunView) -> str | None:
    """Return the latency that was measured of the judged variant at its server, one request at a time first."""
    names = [name for time in TIME for name in view.summary.metrics if name.startswith(f"{time}[engine=server")]
    return next((name for name in names if _value(view, name, _judged(view)) is not None), None)


def _memory(view: RunView, fits: Sequence[Fit]) -> Tile:
    title, name = "Memory", view.measured(MEMORY)
    ours = _value(view, name, _judged(view)) if name else None
    if name is None or ours is None:
        return Tile(title, "", "not measured")
    theirs = None if view.reference == _judged(view) else _value(view, name, view.reference)
    beside = "" if theirs is None else f", {view.reference} {_figure(view, name, theirs)}"
    cards = _cards([fit for fit in fits if fit.variant == _judged(view)])
    detail = sentence_case(cards) if cards else f"{lowered(view.label(name))}{beside}"
    sign = _WORSE if cards.startswith("fits no") else None
    return Tile(title, _figure(view, name, ours), detail, sign)


def _cards(fits: Sequence[Fit]) -> str:
    """Name the smallest card for the lightest and for the heaviest workload that fits on any."""
    found = [
        (fit, card) for fit in fits if (card := min((int(name) for name, ok in fit.fits.items() if ok), default=0))
    ]
    if not fits:
        return ""
    if not found:
        largest = max(int(name) for fit in fits for name in fit.fits)
        return f"fits no card up to {largest} GB"
    (light, small), (heavy, large) = found[0], found[-1]
    text = f"fits {small} GB at {_workload(light)}"
    return text if heavy is light else f"{text}; {large} GB at {_workload(heavy)}"


def _workload(fit: Fit) -> str:
    return f"{fit.batch}\u00a0×\u00a0{plain(fit.context, 0)} tokens"


def _judged(view: RunView) -> str | None:
    return view.candidate or view.reference


def _value(view: RunView, name: str, variant: str | None) -> float | None:
    row = view.estimate(name, variant)
    return None if row is None else row.value


def _figure(view: RunView, name: str, value: float) -> str:
    metric = view.summary.metrics[name]
    shown = amount(value, unit=metric.unit)[0]
    return f"{shown}\u00a0ms" if metric.unit == "ms" else shown


def _change(view: RunView, row: ComparisonRow) -> str:
    if row.relative:
        return ratio(row.value)[0]
    unit = view.summary.metrics[row.metric].unit
    return f"{plain((row.value or 0.0) * 100, 1, signed=True)} points" if is_share(unit) else brief(row.value)


def _from_to(view: RunView, row: ComparisonRow) -> str:
    """Return both values; with the number of each where they are not of nearly the same dialogues."""
    before, after = (view.estimate(row.metric, variant) for variant in (row.against, row.variant))
    if before is None or before.value is None or after is None or after.value is None:
        return ""
    apart = min(before.n, after.n) < MIN_COVERAGE * max(before.n, after.n)
    shown = (
        _figure(view, row.metric, one.value or 0.0) + (f" (n\u00a0=\u00a0{plain(float(one.n), 0)})" if apart else "")
        for one in (before, after)
    )
    return f" {' → '.join(shown)}"
