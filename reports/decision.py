"""May it ship? The page's first line: one of four words, and the single reason that decides.

Only a gate that passed says "Ship". Without a gate the line says what the numbers suggest, which decides nothing. That
a safety rule does not fire proves nothing, so nothing here is called safe.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.gating.sentences import counted
from harness.gating.verdict import CheckResult, GateResult
from harness.store.schema import ComparisonRow
from reports.contenders import ahead
from reports.coverage import uneven
from reports.form_sentence import FAULTS, MEANINGLESS, form_faults
from reports.gate_view import checks_with, decisive, too_few
from reports.numbers import count, plain, spelled
from reports.rules import lowered, risen
from reports.verdict_sentence import standing
from reports.view import LIKELIHOOD, RunView
from reports.words import Sign, listed, possessive, the

Word = Literal["Ship", "Do not ship", "Not yet", "No gate"]
_SIGNS: dict[Word, Sign] = {
    "Ship": Sign("Ship", "✓", "better"),
    "Do not ship": Sign("Do not ship", "✕", "worse"),
    "Not yet": Sign("Not yet", "◇", "undecided"),
    "No gate": Sign("No gate", "○", "neutral"),
}


@dataclass(frozen=True)
class Decision:
    """The word and its reason, a clause without a full stop."""

    word: Word
    reason: str

    @property
    def sign(self) -> Sign:
        return _SIGNS[self.word]


def decide(view: RunView) -> Decision:
    """Return the decision: from the gate, unless what it judged is not to be relied upon."""
    invalid = standing(view)
    if view.gate is None:
        return Decision("Not yet", invalid) if invalid else Decision("No gate", _suggestion(view))
    if view.gate.verdict == "fail":
        return Decision("Do not ship", _failed(view, checks_with(view.gate, "fail")))
    if invalid:
        return Decision("Not yet", invalid)
    if view.gate.verdict == "error":
        return Decision("Not yet", _missing(view, view.gate))
    if view.gate.verdict == "inconclusive":
        return Decision("Not yet", _open(view, checks_with(view.gate, "inconclusive")))
    if unseen := _unseen_faults(view):
        return Decision("Not yet", f"the gate passes, but {the(view.candidate or '')} {unseen[0]}, which no check sees")
    return Decision("Ship", ", though ".join(filter(None, (_passed(view.gate), uneven(view)))))


def _unseen_faults(view: RunView) -> list[str]:
    """Return the faults of the candidate's replies that no check of the gate has judged."""
    if view.candidate is None:
        return []
    judged = {check.metric for check in view.checks if check.candidate == view.candidate}
    return form_faults(view, view.candidate, frozenset(fault.metric for fault in FAULTS) - judged)


def _passed(gate: GateResult) -> str:
    binding = sum(check.decides for check in gate.checks)
    warned = sum(check.verdict != "pass" for check in gate.checks)
    also = f", with {count(warned, 'warning')}" if warned else ""
    if binding == 1:
        return f"the one check of {gate.thresholds} passes{also}"
    return f"all {plain(binding, 0)} checks of {gate.thresholds} pass{also}"


def _failed(view: RunView, failed: list[CheckResult]) -> str:
    if not failed:
        return "a check of the gate failed"
    check = decisive(failed)
    more = len(failed) - 1
    also = f"; {spelled(more).lower()} more check{'s fail' if more > 1 else ' fails'}" if more else ""
    return check.sentence.rstrip(".") + also


def _missing(view: RunView, gate: GateResult) -> str:
    if gate.problems:
        return gate.problems[0].rstrip(".")
    if gap := uneven(view):
        return gap
    broken = listed([_what(view, check) for check in gate.checks if check.verdict == "error"][:3])
    return f"a measurement is missing ({broken})" if broken else "a measurement is missing"


def _open(view: RunView, undecided: list[CheckResult]) -> str:
    if not undecided:
        return "the gate's checks are undecided"
    if few := [check for check in undecided if too_few(check)]:
        check = decisive(few)
        measured = f"{_what(view, check)} was measured on {counted(check.n, check.units)}"
        return f"{measured}, and its check requires {plain(check.min_samples, 0)}"
    first, more = decisive(undecided), len(undecided) - 1
    named = _what(view, first) + (f" and {count(more, 'other check')}" if more else "")
    return f"{named} {'are' if more else 'is'} undecided with {counted(first.n, first.units)}"


def _what(view: RunView, check: CheckResult) -> str:
    """Return what a check is about: ``nll``, or ``nll on general``."""
    return lowered(view.label(check.metric)) + (f" on {check.set}" if check.set else "")


def _suggestion(view: RunView) -> str:
    """Return what the numbers suggest, the most harmful first."""
    if view.candidate is None or view.reference is None or view.candidate == view.reference:
        return "there is nothing to compare with"
    ours, theirs = the(view.candidate), the(view.reference)
    against = f"the numbers speak against {ours}"
    if faults := form_faults(view, view.candidate):
        return f"{against}: it {faults[0]}"
    if gap := uneven(view):
        return f"{gap}, so this comparison says little: what was left out may be what is hard"
    if faults := form_faults(view, view.reference, MEANINGLESS):
        return f"{theirs} {faults[0]}, so this comparison says little about {ours}"
    names = view.main_measures
    rows = [row for name in names if (row := view.comparison(name, view.candidate)) and row.n]
    rules = risen(view)
    outcomes: set[str] = {row.outcome for row in rows}
    if rules:
        but = f"{possessive(view.candidate)} replies are closer to the references, but "
        return f"{but if outcomes == {'better'} else f'{against}: '}{rules[0].words}"
    if not rows:
        return f"whether {ours} is better than {theirs} was not measured"
    return _by_quality(view, rows, outcomes)


def _by_quality(view: RunView, rows: list[ComparisonRow], outcomes: set[str]) -> str:
    ours, theirs = the(view.candidate or ""), the(view.reference or "")
    if {"better", "worse"} <= outcomes:
        told = [f"{view.label(row.metric)} is {row.outcome}" for row in rows]
        return f"the measures disagree about {ours}: {listed(told)}"
    # Replies are what a patient reads: where they were measured, the likelihood of the references does not decide.
    row = rows[0]
    closer = row.metric not in LIKELIHOOD
    if row.outcome == "worse":
        what = "its replies are further from the references" if closer else "it predicts the references worse"
        return f"the numbers speak against {ours}: {what}"
    if row.outcome == "better":
        what = "its replies are closer to the references" if closer else "it predicts the references better"
        others = f", but {found}" if (found := ahead(view)) else ""
        return f"the numbers speak for {ours}: {what}{others}"
    if row.outcome == "undecided":
        return f"by {view.label(row.metric)}, {count(row.n, 'dialogue')} cannot tell {ours} from {theirs}"
    return f"by {view.label(row.metric)}, {ours} is no better and no worse than {theirs}"
