"""What a change of a thresholds file loosens, in words, so that reviewers notice a lowered limit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from harness.gating.policy import Check, Policy
from harness.gating.sentences import number

Effect = Literal["loosened", "tightened", "changed"]


@dataclass(frozen=True)
class Change:
    """One difference. ``changed`` is neither looser nor tighter, e.g. another metric."""

    effect: Effect
    where: str
    sentence: str


def _moved(loose: bool, where: str, sentence: str) -> Change:
    return Change("loosened" if loose else "tightened", where, sentence)


def compare(old: Policy, new: Policy) -> tuple[Change, ...]:
    """Return every difference between two policies, loosened ones first."""
    changes = list(_defaults(old, new))
    before = {check.id: check for check in old.checks or ()}
    after = {check.id: check for check in new.checks or ()}
    for name, check in before.items():
        if name not in after:
            changes.append(Change("loosened", name, f"check removed: {check.rule} on {check.metric}"))
        else:
            changes.extend(_check(old, new, check, after[name]))
    for name, check in after.items():
        if name not in before:
            changes.append(Change("tightened", name, f"check added: {check.rule} on {check.metric}"))
    order: tuple[Effect, ...] = ("loosened", "changed", "tightened")
    return tuple(sorted(changes, key=lambda change: order.index(change.effect)))


def _defaults(old: Policy, new: Policy) -> Iterator[Change]:
    if old.candidate != new.candidate:
        yield Change("changed", "candidate", f"another variant is judged: {new.candidate}, not {old.candidate}")
    a, b = old.defaults, new.defaults
    yield from _confidence(old, new)
    yield from _smaller_is_looser("defaults.min_samples", "samples required", a.min_samples, b.min_samples)
    yield from _smaller_is_looser("defaults.min_coverage", "coverage asked for", a.min_coverage, b.min_coverage)
    if a.on_inconclusive != b.on_inconclusive:
        loose = b.on_inconclusive == "pass"
        stop = "no longer" if loose else "now"
        yield _moved(loose, "defaults.on_inconclusive", f"inconclusive checks {stop} stop the gate")


def _confidence(old: Policy, new: Policy) -> Iterator[Change]:
    """Wider intervals make passing harder, but also proving a loss, so no_regression goes the other way."""
    before, after = old.defaults.confidence, new.defaults.confidence
    if before == after:
        return
    rules = {check.rule for check in new.checks or ()}
    text = f"intervals are at {after:.6g}, not {before:.6g}"
    if rules != {"no_regression"}:
        yield _moved(after < before, "defaults.confidence", text)
    if "no_regression" in rules:
        proof = "less" if after < before else "more"
        sentence = f"{text}: no_regression checks need {proof} proof of a loss to fail"
        yield _moved(after > before, "defaults.confidence", sentence)


def _check(old: Policy, new: Policy, a: Check, b: Check) -> Iterator[Change]:
    name = a.id
    if a.metric != b.metric:
        yield Change("changed", name, f"another metric is judged: {b.metric}, not {a.metric}")
    # The file's candidate is reported separately; compare only what the checks themselves set.
    one, two = a.candidate or old.candidate, b.candidate or new.candidate
    if one != two and (a.candidate, b.candidate) != (None, None):
        yield Change("changed", name, f"another candidate is judged: {two}, not {one}")
    if a.against != b.against:
        yield Change("changed", name, f"it is compared with {_other(b)}, not {_other(a)}")
    if a.set != b.set:
        yield Change("changed", name, f"it judges {_on(b)}, not {_on(a)}")
    if a.slice != b.slice:
        yield Change("changed", name, f"it covers {_part(b)}, not {_part(a)}")
    yield from _rules(a, b)
    # Likewise for the defaults.
    before, after = a.min_samples or old.defaults.min_samples, b.min_samples or new.defaults.min_samples
    if (a.min_samples, b.min_samples) != (None, None):
        yield from _smaller_is_looser(name, "samples required", before, after)
    if a.severity != b.severity:
        loose = b.severity == "warn"
        text = "it now only warns" if loose else "it now stops the gate instead of only warning"
        yield _moved(loose, name, text)
    if a.judge != b.judge:
        point = b.judge == "point"
        loose = point != (b.rule == "no_regression")  # whose value may fail where its interval proves no loss
        text = "only the value is now judged, ignoring its uncertainty" if point else "the interval is now judged"
        yield _moved(loose, name, text)
    gone = [dialogue for dialogue in a.must_pass if dialogue not in b.must_pass]
    added = [dialogue for dialogue in b.must_pass if dialogue not in a.must_pass]
    if gone:
        yield Change("loosened", name, f"dialogues that no longer must pass: {', '.join(gone)}")
    if added:
        yield Change("tightened", name, f"dialogues that now must pass: {', '.join(added)}")


def _rules(a: Check, b: Check) -> Iterator[Change]:
    if a.rule != b.rule or a.is_relative != b.is_relative:
        effect = _effect_of_rules(a, b)
        why = " (it fails only if a loss is proven)" if b.rule == "no_regression" else " (a gain no longer fails it)"
        yield Change(effect, a.id, f"the rule is {_rule(b)}, not {_rule(a)}{why if effect == 'loosened' else ''}")
        return
    if a.margin == b.margin:
        return
    larger = b.margin > a.margin
    loose = not larger if a.rule == "min" else larger
    yield _moved(loose, a.id, f"{_rule(b)} is required, not {_rule(a)}")


def _effect_of_rules(a: Check, b: Check) -> Effect:
    """Rank rules by what they require: no proven loss, then proof of no loss, then also proof of no gain."""
    order = ("no_regression", "non_inferiority", "equivalence")
    if a.rule not in order or b.rule not in order or a.rule == b.rule:
        return "changed"
    same_unit = a.is_relative == b.is_relative
    if order.index(b.rule) > order.index(a.rule):
        return "tightened" if same_unit and b.margin <= a.margin else "changed"
    if b.rule == "no_regression":
        return "loosened"
    return "loosened" if same_unit and b.margin >= a.margin else "changed"


def _rule(check: Check) -> str:
    if check.rule in ("min", "max"):
        return f"{check.rule} {number(check.margin)}"
    key = next(key for key, value in getattr(check, check.rule) if value is not None)
    return f"{check.rule} with {key} {number(check.margin)}"


def _other(check: Check) -> str:
    if check.against is None:
        return "nothing"
    variant = f"variant {check.against.variant}" if check.against.variant else "the same variant"
    return f"{variant} of baseline {check.against.baseline}" if check.against.baseline else variant


def _on(check: Check) -> str:
    return f"the set {check.set}" if check.set else "the first set"


def _part(check: Check) -> str:
    return next((f"{column}={level}" for column, level in (check.slice or {}).items()), "all dialogues")


def _smaller_is_looser(where: str, what: str, before: float, after: float) -> Iterator[Change]:
    if before != after:
        yield _moved(after < before, where, f"{what}: {number(after)}, not {number(before)}")
