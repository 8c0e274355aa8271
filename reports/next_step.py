"""What to do next, in a line or two: derived from the verdict, and never more than it supports."""

from __future__ import annotations

from harness.gating.verdict import CheckResult, GateResult
from harness.store.schema import ComparisonRow
from reports.contenders import ahead, are_tied, chosen, which_contender
from reports.coverage import uneven
from reports.form_sentence import MEANINGLESS, form_faults
from reports.gate_view import checks_with, too_few
from reports.numbers import amount, plain, rounded
from reports.rules import risen
from reports.verdict_sentence import KEEPS, merge_kept
from reports.view import LIKELIHOOD, MEMORY, OVERLAP, TIME, RunView
from reports.words import listed, the


def next_step(view: RunView) -> tuple[str, ...]:
    """Return what to do next, most urgent first."""
    if view.manifest.state != "complete":
        return ("Run the same command again to resume. Do not rely on the figures of this page.",)
    if any(not check.ok for check in view.manifest.sanity):
        return ("Fix what the sanity check found, then measure again. Do not rely on the figures of this page.",)
    steps = _after_gate(view, view.gate) if view.gate else _without_gate(view)
    choice = which_contender(view)
    # Thresholds are for one of them, so the choice comes first.
    steps = (*choice, *steps) if view.gate is None and ahead(view) else (*steps, *choice)
    return (*steps, *_which_to_serve(view))


def _after_gate(view: RunView, gate: GateResult) -> tuple[str, ...]:
    name = the(gate.candidate or view.candidate or "candidate")
    if gate.verdict == "pass":
        warned = [check.id for check in gate.checks if check.verdict != "pass"]
        more = f" Look at the warnings first: {_names(warned)}." if warned else ""
        return (f"Every threshold is met: have a person review {name}, including the worst dialogues below.{more}",)
    if gate.verdict == "fail":
        failed = checks_with(gate, "fail")
        start = any(check.metric.startswith(("quality.", "safety.")) for check in failed)
        read = " Start with its worst dialogues below." if start else ""
        return (f"Do not release {name}: {_names([check.id for check in failed])} failed.{read}",)
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
    row = _compared(view, OVERLAP) or _compared(view, LIKELIHOOD)
    if row is None:
        return ("Add a second variant to compare with, then measure again.",) if len(view.variants) < 2 else ()
    candidate, reference = the(view.candidate or ""), the(view.reference or "")
    if uneven(view):
        return (f"Let {candidate} and {reference} answer every dialogue, and measure again before you choose.",)
    if row.outcome == "worse":
        return (f"Do not replace {reference} with {candidate}; read the worst dialogues below to see why.",)
    if form_faults(view, row.variant):
        return (
            f"Do not replace {reference} with {candidate} before the form of its replies is repaired; read the worst "
            "dialogues below.",
        )
    if form_faults(view, row.against, MEANINGLESS):
        return (
            f"Compare {candidate} with a variant that answers, or set thresholds for its own values: differences from "
            f"{reference} say little.",
        )
    if rises := risen(view):
        rules = listed([rise.label for rise in rises])
        start = f"Keep {reference} for now, and read" if row.outcome == "undecided" else "First read"
        return (f"{start} the dialogues below in which {candidate} does worse than {reference}: {rules}.",)
    if {"better", "worse"} <= {it.outcome for each in (OVERLAP, LIKELIHOOD) if (it := _compared(view, each))}:
        return (f"Decide which measure counts, read the worst dialogues below, and set thresholds for {candidate}.",)
    if row.outcome == "undecided":
        more = f" About {rounded(row.needed_n)} dialogues in all would decide." if row.needed_n else ""
        return (f"Keep {reference} for now: by {view.label(row.metric)} this run cannot distinguish the two.{more}",)
    meant = "the one you choose" if are_tied(view) else the(chosen(view) or "")
    return (
        f"Set the thresholds that {meant} must meet (harness thresholds init), run the gate, and read the worst "
        "dialogues below.",
    )


def _compared(view: RunView, names: tuple[str, ...]) -> ComparisonRow | None:
    name = view.measured(names)
    row = view.comparison(name, view.candidate) if name else None
    return row if row and row.n else None


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
