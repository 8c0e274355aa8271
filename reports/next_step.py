"""What to do next, in a line or two: derived from the verdict, and never more than it supports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.gating.verdict import CheckResult, GateResult
from reports.family import worse_after_holm
from reports.form_sentence import form_faults
from reports.gate_view import checks_with, too_few
from reports.numbers import amount, brief, is_share, plain, ratio, rounded
from reports.verdict_sentence import KEEPS, merge_kept
from reports.view import LIKELIHOOD, MEMORY, OVERLAP, TIME, RunView
from reports.words import OUTCOMES, Sign, listed, sentence_case, the

Tone = Literal["better", "worse", "undecided", "neutral"]


@dataclass(frozen=True)
class KeyFigure:
    """A number that the verdict is based on, shown in large type."""

    title: str
    value: str
    detail: str
    sign: Sign | None


def tone(view: RunView) -> Tone:
    """Return the colour of the verdict's banner."""
    if view.manifest.state != "complete" or any(not check.ok for check in view.manifest.sanity):
        return "worse"
    if view.gate:
        tones: dict[str, Tone] = {"pass": "better", "fail": "worse", "error": "worse", "inconclusive": "undecided"}
        return tones[view.gate.verdict]
    return "neutral"


def next_step(view: RunView) -> tuple[str, ...]:
    """Return what to do next, most urgent first."""
    if view.manifest.state != "complete":
        return ("Run the same command again to resume. Do not rely on the figures of this page.",)
    if any(not check.ok for check in view.manifest.sanity):
        return ("Fix what the sanity check found, then measure again. Do not rely on the figures of this page.",)
    steps = _after_gate(view, view.gate) if view.gate else _without_gate(view)
    return (*steps, *_which_to_serve(view))


def _after_gate(view: RunView, gate: GateResult) -> tuple[str, ...]:
    name = the(gate.candidate or view.candidate or "candidate")
    if gate.verdict == "pass":
        warned = [check.id for check in gate.checks if check.verdict != "pass"]
        more = f" Look at the warnings first: {_names(warned)}." if warned else ""
        return (f"Every threshold is met: have a person review {name}, including the worst dialogues below.{more}",)
    if gate.verdict == "fail":
        failed = checks_with(gate, "fail")
        reason = failed[0].sentence if failed else ""
        parts = [f"Do not release {name}: {_names([check.id for check in failed])} failed.", reason]
        if any(check.metric.startswith(("quality.", "safety.")) for check in failed):
            parts.append("Start with its worst dialogues below.")
        return (" ".join(part for part in parts if part),)
    if gate.verdict == "error":
        broken = [check for check in gate.checks if check.verdict == "error"]
        reasons = [*gate.problems, *(f"{check.id}: {check.sentence}" for check in broken)]
        what = _names([check.id for check in broken]) or "the run"
        return (f"Do not release anything yet: {what} could not be judged. {reasons[0] if reasons else ''}".rstrip(),)
    undecided = checks_with(gate, "inconclusive")
    asked = _most([check for check in undecided if too_few(check)])
    deciding = _most([check for check in undecided if not too_few(check)])
    more = f" The thresholds require at least {listed(asked)}." if asked else ""
    more += f" About {listed(deciding)} in all would decide{' the others' if asked else ''}." if deciding else ""
    return (
        f"Do not release {name} on this evidence yet: {_names([check.id for check in undecided])} undecided.{more}",
    )


def _most(checks: list[CheckResult]) -> list[str]:
    """Return the largest number needed by any of ``checks``, for each unit, as text."""
    most: dict[str, int] = {}
    for check in checks:
        most[check.units] = max(most.get(check.units, 0), check.needed_n or 0)
    words = {"dialogues": "held-out dialogues"}
    return [f"{rounded(number)} {words.get(units, units)}" for units, number in most.items() if number]


def _names(ids: list[str]) -> str:
    shown = [f"“{name}”" for name in ids[:4]]
    return listed([*shown, f"{len(ids) - 4} more"] if len(ids) > 4 else shown)


def _without_gate(view: RunView) -> tuple[str, ...]:
    name = view.measured(OVERLAP) or view.measured(LIKELIHOOD)
    row = view.comparison(name, view.candidate) if name else None
    if row is None:
        return ("Add a second variant to compare with, then measure again.",) if len(view.variants) < 2 else ()
    candidate, reference = the(view.candidate or ""), the(view.reference or "")
    if row.outcome == "worse":
        return (f"Do not replace {reference} with {candidate}; read the worst dialogues below to see why.",)
    if form_faults(view, row.variant):
        return (
            f"Do not replace {reference} with {candidate} before the form of its replies is repaired; read the worst "
            "dialogues below.",
        )
    rows = [(name, it) for name in view.names("safety") if (it := view.comparison(name, view.candidate))]
    if proven := worse_after_holm(rows):
        rules = listed([view.label(name) for name, _ in rows if name in proven])
        start = f"Keep {reference} for now, and read" if row.outcome == "undecided" else "First read"
        return (f"{start} the dialogues below in which {candidate} does worse than {reference}: {rules}.",)
    if row.outcome == "undecided":
        more = f" About {rounded(row.needed_n)} dialogues in all would decide." if row.needed_n else ""
        return (f"Keep {reference} for now: by {view.label(row.metric)} this run cannot distinguish the two.{more}",)
    return (
        f"Set the thresholds that {candidate} must meet (harness thresholds init), run the gate, and read the worst "
        "dialogues below.",
    )


def _which_to_serve(view: RunView) -> tuple[str, ...]:
    """Compare merged with unmerged if merging kept the gain."""
    kept, name = merge_kept(view), view.measured(TIME)
    if kept is None or name is None or (kept.value if kept.low is None else kept.low) < KEEPS:
        return ()
    unmerged, merged = view.comparison(name, view.candidate), view.comparison(name, view.merged)
    if unmerged is None or merged is None or unmerged.outcome != "worse" or not unmerged.relative:
        return ()
    if unmerged.low is None or merged.high is None or unmerged.low <= merged.high:
        return ()  # the two times cannot be distinguished
    times = f"{plain(merged.value, 2)} instead of {plain(unmerged.value, 2)} times the latency"
    text = f"If it is served, merge it: that keeps the nll gain at {times}"
    memory = view.measured(MEMORY)
    ours = view.estimate(memory, view.merged) if memory else None
    theirs = view.estimate(memory, view.candidate) if memory else None
    if ours and theirs and ours.value and theirs.value and ours.value > theirs.value * 1.05:
        unit = view.summary.metrics[memory or ""].unit
        text += (
            f" – if {amount(ours.value, unit=unit)[0]} of memory instead of {amount(theirs.value, unit=unit)[0]} fit"
        )
    return (text + ".",)


def key_figures(view: RunView) -> tuple[KeyFigure, ...]:
    """Return the figures that the verdict is based on: closeness, likelihood, cost in time and memory, merge."""
    figures = [_change(view, view.measured(OVERLAP)), _change(view, view.measured(LIKELIHOOD)), *_costs(view)]
    kept = merge_kept(view)
    if kept is not None:
        low = kept.value if kept.low is None else kept.low
        high = kept.value if kept.high is None else kept.high
        sign = Sign("kept", "✓", "better") if low >= KEEPS else OUTCOMES["undecided" if high >= KEEPS else "worse"]
        bounds = "" if kept.low is None else f"{plain(low * 100, 0)} to {plain(high * 100, 0)} %"
        figures.append(
            KeyFigure("Kept by merging, of the nll gain", f"{plain(kept.value * 100, 0)}\u00a0%", bounds, sign)
        )
    return tuple(figure for figure in figures if figure)


def _change(view: RunView, name: str | None) -> KeyFigure | None:
    row = view.comparison(name, view.candidate) if name else None
    metric = view.metric(name) if name else None
    if row is None or metric is None or name is None or row.value is None:
        return None
    if row.relative:
        value, bounds = ratio(row.value, row.low, row.high)
    else:
        value = _brief(row.value, metric.unit)
        shown = [_brief(bound, metric.unit) for bound in (row.low, row.high) if bound is not None]
        bounds = " to ".join(shown)
    title = f"{view.label(name)}, {view.candidate} {'÷' if row.relative else '−'} {row.against}"
    return KeyFigure(title, value, bounds, OUTCOMES[row.outcome])


def _brief(value: float, unit: str) -> str:
    return f"{plain(value * 100, 1, signed=True)} points" if is_share(unit) else brief(value)


def _costs(view: RunView) -> list[KeyFigure | None]:
    figures = [_change(view, view.measured(TIME))]
    name = view.measured(MEMORY)
    ours, theirs = (view.estimate(name, who) if name else None for who in (view.candidate, view.reference))
    if name and ours and theirs and ours.value and theirs.value and view.candidate != view.reference:
        unit = view.summary.metrics[name].unit
        figures.append(
            KeyFigure(
                sentence_case(f"{view.label(name)} memory, {view.candidate} ÷ {view.reference}"),
                ratio(ours.value / theirs.value)[0],
                f"{amount(ours.value, unit=unit)[0]} against {amount(theirs.value, unit=unit)[0]}",
                None,
            )
        )
    return figures
