"""The run in one sentence that a manager understands, with nothing that the run did not measure.

Every clause names the metric it is based on. A difference that its interval does not decide is called undecided. The
words "answers better" and "safe" are never used: lexical overlap and heuristics measure neither.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from harness.stats.power import fewest_units
from harness.store.schema import ComparisonRow
from reports.contenders import best_contender
from reports.family import worse_after_holm
from reports.form_sentence import form_sentence
from reports.further_sets import losses
from reports.numbers import brief, count, is_share, plain, significant, spelled
from reports.rules import judged_rows, undecided_rules
from reports.view import LIKELIHOOD, TIME, RunView
from reports.words import listed, possessive, sentence_case, the

KEEPS, LOSES = 0.95, 0.5  # shares of the adapter's nll gain: kept from here on; "most of it" is lost below
FEW = 50
_KNOWN = ("base", "adapter", "merged")


@dataclass(frozen=True)
class Kept:
    """The share of the adapter's nll gain that the merged variant keeps, and its interval if known."""

    value: float
    low: float | None
    high: float | None


def verdict_sentence(view: RunView) -> str:
    """Return the verdict: form, where it decides. Quality; cost; merge. Other sets. Safety. Gaps. Best. Gate."""
    first = "; ".join(clause for clause in (quality(view), *others(view), cost(view), merge(view)) if clause)
    rest = losses(view), safety(view), gaps(view), best_contender(view), gate(view)
    parts = [standing(view), form_sentence(view), first, *rest]
    return " ".join(f"{opened(view, part)}." for part in parts if part)


def opened(view: RunView, part: str) -> str:
    """Begin a sentence with a capital letter, but leave a variant's name as it is."""
    return part if any(re.match(rf"{re.escape(name)}(?!\w)", part) for name in view.variants) else sentence_case(part)


def standing(view: RunView) -> str:
    """Return what invalidates the figures: an unfinished run, a failed sanity check."""
    failed = [check for check in view.manifest.sanity if not check.ok]
    notes = []
    if view.manifest.state != "complete":
        notes.append("this run is not finished" if view.manifest.state == "running" else "this run failed")
    if failed:
        which = listed([f"“{check.name}”" + (f" ({check.variant})" if check.variant else "") for check in failed[:3]])
        notes.append(f"a sanity check failed: {which}")
    return "; ".join(notes)


def quality(view: RunView) -> str:
    """Say whether the candidate's replies are closer to the references than the reference variant's."""
    names = view.main_measures
    if view.candidate is None or view.reference is None:
        return _values(view, names)
    found = [(name, row) for name in names if (row := view.comparison(name, view.candidate)) and row.n]
    if not found:
        return _values(view, names) or "how close the replies are to the references was not measured"
    outcomes = {row.outcome for _, row in found}
    figures = ", ".join(_change(view, name, row) for name, row in found)
    if outcomes == {"undecided"}:
        units = max(row.n for _, row in found)
        ranges = ", ".join(_range(view, name, row) for name, row in found)
        return f"whether {_closer(view, found)} is undecided ({ranges} with {count(units, 'dialogue')})"
    if len(outcomes) == 1:
        word = {"better": "closer to", "worse": "further from"}.get(outcomes.pop())
        if word:
            return f"{_closer(view, found, word)} ({figures})"
        return (
            f"{possessive(view.candidate)} replies are as close to the references as "
            f"{possessive(view.reference)} ({figures})"
        )
    halves = []
    for name, row in found:
        halves.append(
            {
                "better": f"by {_change(view, name, row)} {_closer(view, [(name, row)])}",
                "worse": f"by {_change(view, name, row)} {_closer(view, [(name, row)], 'further from')}",
                "undecided": f"by {view.label(name)} that is undecided ({_range(view, name, row)})",
            }.get(row.outcome, f"by {_change(view, name, row)} they are as close")
        )
    # The decided one comes first, so that "that" in the other refers to it.
    halves.sort(key=lambda half: "undecided" in half)
    return ", ".join(halves)


def others(view: RunView) -> list[str]:
    """Summarise other systems than the candidate that are neither base, adapter nor merged."""
    name = view.judged_by
    clauses = []
    for variant in view.variants:
        row = (
            view.comparison(name, variant)
            if name and variant != view.candidate and view.kind(variant) not in _KNOWN
            else None
        )
        if row is not None and name is not None:
            word = {"better": "closer", "worse": "further", "undecided": "undecided"}.get(row.outcome, "as close")
            shown = _range(view, name, row) if row.outcome == "undecided" else _change(view, name, row)
            clauses.append(f"{possessive(variant)} {word} ({shown})")
    return clauses


def _closer(view: RunView, found: list[tuple[str, ComparisonRow]], word: str = "closer to") -> str:
    candidate, reference = view.candidate or "", view.reference or ""
    if all(name in LIKELIHOOD for name, _ in found):
        better = "better" if word == "closer to" else "worse"
        return f"{the(candidate)} predicts the references {better} than {the(reference)} does"
    return f"{possessive(candidate)} replies are {word} the references than {possessive(reference)}"


def _values(view: RunView, names: Sequence[str]) -> str:
    variant = view.candidate or view.reference
    shown = [
        f"{view.label(name)} {plain(row.value, significant(row.value or 0, 3))}"
        for name in names
        if (row := view.estimate(name, variant)) and row.value is not None
    ]
    if not shown or variant is None:
        return ""
    why = "there is nothing to compare it with" if len(view.variants) < 2 else "no comparison was computed"
    return f"{the(variant)} has {listed(shown)}; {why}"


def _change(view: RunView, name: str, row: ComparisonRow) -> str:
    return f"{view.label(name)} {_signed(view, name, row.value, row)}"


def _range(view: RunView, name: str, row: ComparisonRow) -> str:
    if row.low is None or row.high is None:
        few = row.value is None or row.n < fewest_units(0.95)
        return (
            f"{view.label(name)}: too few dialogues for an interval"
            if few
            else f"{_change(view, name, row)}, no interval"
        )
    low, high = (_signed(view, name, bound, row) for bound in (row.low, row.high))
    suffix = next((end for end in (" per token", " points", " times") if high.endswith(end)), "")
    return f"{view.label(name)} between {low.removesuffix(suffix)} and {high}"


def _signed(view: RunView, name: str, value: float | None, row: ComparisonRow) -> str:
    if value is None:
        return "not measured"
    if row.relative:
        return f"{plain(value, 2)} times"
    metric = view.metric(name)
    unit = metric.unit if metric else ""
    if is_share(unit):
        return f"{plain(value * 100, 1, signed=True)} points"
    return brief(value) + (" per token" if "token" in unit else "")


def cost(view: RunView) -> str:
    """Say what the candidate costs in time, unmerged and merged."""
    name = view.measured(TIME)
    if name is None:
        elsewhere = view.manifest.kind == "score" or any(one.startswith(TIME) for one in view.summary.metrics)
        return "" if elsewhere else "latency was not measured"
    row = view.comparison(name, view.candidate)
    if row is None or row.value is None:
        return ""
    label = view.label(name)
    state = " unmerged" if view.candidate and view.kind(view.candidate) == "adapter" else ""
    text = _times(row, label, state)
    merged = view.comparison(name, view.merged) if view.merged else None
    if merged and merged.value is not None and merged.relative:
        text += f", {plain(merged.value, 2)} times merged"
        text += " (undecided)" if merged.outcome == "undecided" else ""
    return text


def _times(row: ComparisonRow, label: str, state: str) -> str:
    if not row.relative:
        word = "undecided" if row.outcome == "undecided" else plain(row.value, signed=True) + " ms"
        return f"latency{state}: {word} ({label})"
    value = plain(row.value, 2 if abs((row.value or 1) - 1) < 0.2 else 1)
    if row.outcome == "undecided":
        known = row.low is not None and row.high is not None
        bounds = f"{plain(row.low, 2)} to {plain(row.high, 2)} times" if known else f"{value} times, no interval"
        return f"whether it is slower{state} is undecided ({bounds}, {label})"
    return f"{value} times the latency{state} ({label})"


def merge_kept(view: RunView) -> Kept | None:
    """Return the share of the adapter's nll gain over the reference that the merged variant keeps, if there is any."""
    adapter, merged = view.candidate, view.merged
    gain = view.comparison("quality.nll", adapter)
    ours, theirs = view.estimate("quality.nll", merged), view.estimate("quality.nll", adapter)
    if gain is None or not gain.value or gain.outcome != "better" or adapter is None:
        return None
    if ours is None or theirs is None or ours.value is None or theirs.value is None:
        return None
    size = abs(gain.value)
    loss = view.comparison("quality.nll", merged, adapter)
    spread = loss or view.estimate("fidelity.nll_difference", merged)
    value = 1 - (ours.value - theirs.value) / size
    if spread is None or spread.low is None or spread.high is None:
        return Kept(value, None, None)
    return Kept(value, 1 - spread.high / size, 1 - spread.low / size)


def merge(view: RunView) -> str:
    """Say whether merging kept what the adapter learned."""
    kept = merge_kept(view)
    if kept is None:
        return "" if view.merged is None else _merged_apart(view)
    low, high = (kept.value if bound is None else bound for bound in (kept.low, kept.high))
    share = f"{plain(min(max(kept.value, 0.0), 1.0) * 100, 0)}\u00a0% of the nll gain"
    if low >= KEEPS:
        return f"merging keeps it ({share})"
    if high < LOSES:
        return f"merging loses most of it ({share} is left)"
    if high < KEEPS:
        return f"merging loses part of it ({share} is left)"
    return (
        f"whether merging keeps it is undecided ({plain(low * 100, 0)} to {plain(high * 100, 0)}\u00a0% of "
        "the nll gain)"
    )


def _merged_apart(view: RunView) -> str:
    ours, theirs = view.estimate("quality.nll", view.merged), view.estimate("quality.nll", view.candidate)
    if ours is None or theirs is None or ours.value is None or theirs.value is None:
        return "whether merging kept it was not measured"
    return f"merging changes nll by {plain(ours.value - theirs.value, 3, signed=True)} per token"


def safety(view: RunView) -> str:
    """Say which safety checks failed, which are undecided, and which rules fire more often than before."""
    rows = judged_rows(view, view.candidate)
    parts = _worse(view, rows)
    checks = [check for check in view.checks if check.metric.startswith("safety.")]
    if checks:
        units = max((check.n for check in checks), default=0)
        failed = [check.id for check in checks if check.verdict == "fail"]
        if failed:
            parts.append(f"failed safety checks: {listed(failed)}")
        parts += _open(sum(check.verdict == "inconclusive" for check in checks), units, "safety check")
        if broken := sum(check.verdict == "error" for check in checks):
            parts.append(f"{spelled(broken).lower()} safety check{'s' * (broken > 1)} could not be made")
        if not parts:
            parts.append(
                f"the thresholds of {spelled(len(checks)).lower()} safety check{'s' * (len(checks) > 1)} are met"
            )
    elif rows:
        named = {name for name, row in rows if row.outcome == "worse"}
        further = [name for name in undecided_rules(view) if name not in named]
        parts += _open(len(further), max(row.n for _, row in rows), f"{'further ' if parts else ''}safety rule")
        if not parts:
            parts.append("no safety rule fires more often than before")
    elif not view.names("safety"):
        parts.append("safety rules were not applied")
    return "; ".join(parts)


def _worse(view: RunView, rows: list[tuple[str, ComparisonRow]]) -> list[str]:
    """Name the rules that got worse, corrected: a sentence over many would call some worse by chance."""
    proven = worse_after_holm(rows)
    worse: dict[bool, list[str]] = {True: [], False: []}
    for name, row in rows:
        if row.outcome == "worse":
            worse[name in proven].append(f"{view.label(name)} ({_signed(view, name, row.value, row)})")
    after = f" after Holm's correction over {spelled(len(rows)).lower()} safety rules" if len(rows) > 1 else ""
    parts = [f"{the(view.candidate or '')} does worse on {listed(worse[True])}{after}"] if worse[True] else []
    if alone := worse[False]:
        parts.append(f"{listed(alone)} {'is' if len(alone) == 1 else 'are'} undecided{after}")
    return parts


def _open(number: int, units: int, noun: str) -> list[str]:
    if not number:
        return []
    verb = "is" if number == 1 else "are"
    return [f"{spelled(number).lower()} {noun}{'s' * (number > 1)} {verb} undecided with {count(units, 'dialogue')}"]


def gaps(view: RunView) -> str:
    """Say how many dialogues the figures are based on, if there are fewer than there should be."""
    known = dict.fromkeys(name for name in (view.candidate, view.reference) if name in view.summary.coverage)
    found = {name: view.summary.coverage[name] for name in known if name}
    if not found:
        return ""
    lacking: dict[tuple[int, int], list[str]] = {}
    for name, one in found.items():
        if one.answered < one.dialogues:
            lacking.setdefault((one.dialogues - one.answered, one.dialogues), []).append(the(name))
    notes = [
        f"{plain(float(missing), 0)} of {count(dialogues, 'dialogue')} "
        f"{'has' if missing == 1 else 'have'} no result for {listed(names)}"
        for (missing, dialogues), names in lacking.items()
    ]
    least = min(one.answered for one in found.values())
    if least < FEW:
        notes.append(f"with {count(least, 'dialogue')}, fewer than {FEW}, every interval is rough")
    return "; ".join(notes)


def gate(view: RunView) -> str:
    """Name the gate's verdict."""
    return f"gate: {view.gate.verdict}" if view.gate else "no gate was applied"
