"""The one rule: ``judge(policy, evidence) -> verdicts``, a pure function.

Numbers are oriented so that larger is better. With interval [L, U] and limit m: L ≥ m passes, U < m fails, anything
else is inconclusive. ``no_regression`` fails only if U < m still holds after Holm's procedure over all such checks.
A comparison that cannot be made is an error, never a pass.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from harness.gating.evidence import Evidence, Interval
from harness.gating.finding import allowed, finding
from harness.gating.policy import Check, Defaults, Policy
from harness.gating.remedies import incomplete, too_few
from harness.gating.sentences import counted, listed, loss_text, requirement
from harness.gating.verdict import CheckResult, VerdictName
from harness.stats.power import critical_sum, critical_value, fewest_units

MOST_UNITS = 10_000_000  # a larger number of units that would decide a check is of no use to anyone


@dataclass(frozen=True)
class Orientation:
    """How to orient a check's numbers so that larger is better, and the limits they are then compared with."""

    sign: int
    origin: float
    limit: float
    upper_limit: float | None = None

    def of(self, number: float | None) -> float | None:
        """Return the oriented number; ``+ 0.0`` turns a negative zero into a positive one."""
        return None if number is None else self.sign * (number - self.origin) + 0.0

    def interval(self, interval: Interval) -> tuple[float | None, float | None]:
        """Return (L, U): the ends swap if the sign changes."""
        ends = (self.of(interval.low), self.of(interval.high))
        return ends if self.sign > 0 else (ends[1], ends[0])


def turn(check: Check, evidence: Evidence) -> Orientation:
    """Return the orientation of this check: the rule determines the limit, the metric the direction."""
    if check.rule == "min":
        return Orientation(1, 0.0, check.margin)
    if check.rule == "max":
        return Orientation(-1, 0.0, -check.margin + 0.0)
    sign = -1 if evidence.higher_is_better is False else 1
    origin = 1.0 if evidence.scale == "ratio" else 0.0
    margin = 0.0 if evidence.scaled_other is not None else check.margin
    return Orientation(sign, origin, -margin + 0.0, margin if check.rule == "equivalence" else None)


def judge(policy: Policy, evidence: Mapping[str, Evidence]) -> tuple[CheckResult, ...]:
    """Return one result for each check, in the policy's order. ``evidence`` is keyed by the check's id.

    A check without evidence is an error.
    """
    checks = policy.checks or ()
    results = {check.id: _prepare(check, policy.defaults, evidence.get(check.id)) for check in checks}
    tested = [
        check
        for check in checks
        if check.rule == "no_regression" and check.judge == "bound" and results[check.id].verdict == "pass"
    ]
    proven, divided = _holm([(check, evidence[check.id]) for check in tested])
    return tuple(
        _no_regression(results[check.id], check, evidence[check.id], check.id in proven, divided[check.id], len(tested))
        if check.id in divided
        else results[check.id]
        for check in checks
    )


def _prepare(check: Check, defaults: Defaults, evidence: Evidence | None) -> CheckResult:
    """Judge everything except Holm's step; a ``no_regression`` that can be tested is returned as a provisional pass."""
    if evidence is None:
        evidence = Evidence(check.metric, check.candidate or "", problem="There is no evidence for this check.")
    turned = turn(check, evidence)
    result = _result(check, defaults, evidence, turned)
    problem = _problem(evidence, defaults)
    if problem:
        return _decided(result, "error", problem)
    result = _hold_single_dialogues(result, evidence, turned)
    if result.must_pass_failed:
        failed = listed(result.must_pass_failed)
        sentence = f"{result.label or result.metric}: dialogue {failed} must pass and does not; {allowed(result)}."
        return _decided(result, "fail", sentence)
    if result.must_pass_missing:
        missing = listed(result.must_pass_missing)
        return _decided(result, "error", f"Dialogue {missing} must pass, but the run has no value for it.")
    if result.n < result.min_samples:
        return _decided(result, "inconclusive", too_few(result), needed_n=result.min_samples)
    return _three_ways(result)


def _result(check: Check, defaults: Defaults, evidence: Evidence, turned: Orientation) -> CheckResult:
    low, high = turned.interval(evidence.interval)
    upper = turned.upper_limit
    samples = check.min_samples or (1 if evidence.single else defaults.min_samples)
    return CheckResult(
        id=check.id,
        metric=check.metric,
        verdict="error",
        severity=check.severity,
        sentence="",
        rule=check.rule,
        label=evidence.label,
        requirement=requirement(check, evidence, turned.sign, turned.origin, turned.limit),
        candidate=evidence.candidate,
        against=evidence.against,
        set=check.set,
        slice=next((f"{column}={level}" for column, level in (check.slice or {}).items()), None),
        judge=check.judge,
        unit=evidence.unit,
        higher_is_better=evidence.higher_is_better,
        scale=evidence.scale,
        scaled_other=evidence.scaled_other,
        value=finite(evidence.value),
        low=finite(evidence.interval.low),
        high=finite(evidence.interval.high),
        confidence=evidence.interval.confidence,
        candidate_value=finite(evidence.candidate_value),
        other_value=finite(evidence.other_value),
        oriented_value=finite(turned.of(evidence.value)),
        oriented_low=finite(low),
        oriented_high=finite(high),
        oriented_limit=turned.limit,
        limit=turned.origin + turned.sign * turned.limit if upper is None else turned.origin - upper,
        upper_limit=None if upper is None else turned.origin + upper,
        n=evidence.n,
        units=evidence.units,
        min_samples=samples,
        method=evidence.method,
        warnings=_warnings(check, evidence),
    )


def _warnings(check: Check, evidence: Evidence) -> tuple[str, ...]:
    against_direction = (check.rule == "min" and evidence.higher_is_better is False) or (
        check.rule == "max" and evidence.higher_is_better is True
    )
    if not against_direction:
        return evidence.warnings
    better = "higher" if evidence.higher_is_better else "lower"
    return (*evidence.warnings, f"'{check.rule}' limits how good this metric may be: {better} is better.")


def _problem(evidence: Evidence, defaults: Defaults) -> str | None:
    if evidence.problem:
        return evidence.problem
    for share in evidence.coverage:
        if not share.dialogues or share.value < defaults.min_coverage:
            return incomplete(share, defaults.min_coverage)
    numbers = (evidence.value, evidence.interval.low, evidence.interval.high)
    if any(value is not None and not math.isfinite(value) for value in numbers):
        return "The value is not a finite number."
    if evidence.n <= 0 or evidence.value is None:
        return f"Nothing was measured: {max(evidence.n, 0)} {evidence.units}."
    return None


def _hold_single_dialogues(result: CheckResult, evidence: Evidence, turned: Orientation) -> CheckResult:
    failed, missing = [], []
    for dialogue in evidence.must_pass:
        value = turned.of(finite(dialogue.value))
        if value is None:
            missing.append(dialogue.id)
        elif value < turned.limit or (turned.upper_limit is not None and value > turned.upper_limit):
            failed.append(dialogue.id)
    return result.model_copy(update={"must_pass_failed": tuple(failed), "must_pass_missing": tuple(missing)})


def _three_ways(result: CheckResult) -> CheckResult:
    value, limit = result.oriented_value, result.oriented_limit
    assert value is not None  # checked in _problem
    assert limit is not None
    low, high = (value, value) if result.judge == "point" else (result.oriented_low, result.oriented_high)
    if result.rule == "no_regression" and result.judge == "bound":
        if high is None:
            return _decided(
                result,
                "inconclusive",
                f"With {counted(result.n, result.units)} there is no interval that could show a loss.",
            )
        return result.model_copy(update={"verdict": "pass"})  # decided by Holm's procedure
    upper = None if result.upper_limit is None else -limit  # equivalence is the same on both sides
    if _beyond(high, limit, below=True) or (upper is not None and _beyond(low, upper, below=False)):
        return _decided(result, "fail", f"{finding(result)}.")
    if low is not None and low >= limit and (upper is None or (high is not None and high <= upper)):
        return _decided(result, "pass", f"{finding(result)}.")
    if low is None or high is None:
        why = f" {' '.join(result.warnings)}" if result.warnings else ""
        sentence = (
            f"{finding(result)}. With {counted(result.n, result.units)} there is no interval to compare "
            f"with the limit.{why} To judge the value alone, set 'judge: point'."
        )
        return _decided(result, "inconclusive", sentence)
    needed = units_needed(result.n, value, low, high, limit, upper)
    how_many = f"about {needed:,} {result.units} would decide it" if needed else f"no number of {result.units} would"
    sentence = f"{finding(result)}. The interval includes the limit; {how_many} (this run has {result.n:,})."
    return _decided(result, "inconclusive", sentence, needed_n=needed)


def _beyond(end: float | None, limit: float, *, below: bool) -> bool:
    return end is not None and (end < limit if below else end > limit)


def units_needed(n: int, value: float, low: float, high: float, limit: float, upper: float | None) -> int | None:
    """Return how many units would decide the check if the value stayed and the interval shrank as 1/√n.

    None if no number would (the value is on the limit) or more than ten million are needed.
    """
    if upper is None or value < limit:
        edges: tuple[float, ...] = (limit,)
    else:
        edges = (limit, upper) if value <= upper else (upper,)  # inside, the interval must clear both limits
    widest = 0.0
    for edge in edges:
        distance, width = abs(value - edge), value - low if value > edge else high - value
        if distance <= 0 or width / distance > math.sqrt(MOST_UNITS):
            return None
        widest = max(widest, width / distance)
    needed = max(math.ceil(n * widest**2 - 1e-6), n + 1)
    return needed if needed <= MOST_UNITS else None


def _holm(tested: list[tuple[Check, Evidence]]) -> tuple[set[str], dict[str, int]]:
    """Return the ids with a proven loss, and the divisor of each check's error at its last comparison.

    Holm's step-down procedure (Holm 1979), by intervals instead of p-values: with R hypotheses left, a loss is proven
    if U at confidence 1 − (1 − confidence)/R is below the limit.
    """
    proven: set[str] = set()
    divided: dict[str, int] = {}
    while True:
        left = [(check, evidence) for check, evidence in tested if check.id not in proven]
        for check, _ in left:
            divided[check.id] = len(left)
        now = {
            check.id
            for check, evidence in left
            if _beyond(_upper(check, evidence, len(left)), turn(check, evidence).limit, below=True)
        }
        if not now:
            return proven, divided
        proven |= now


def _upper(check: Check, evidence: Evidence, divided: int) -> float | None:
    """Return U at the confidence for ``divided`` hypotheses, or the plain one (more alarms) if that is missing."""
    interval = evidence.steps[divided - 2] if _computed(evidence, divided) else evidence.interval
    return turn(check, evidence).interval(interval)[1]


def _computed(evidence: Evidence, divided: int) -> bool:
    return 0 <= divided - 2 < len(evidence.steps)


def _no_regression(
    result: CheckResult, check: Check, evidence: Evidence, proven: bool, divided: int, tested: int
) -> CheckResult:
    # The range of a few repeats is not an interval with a known power.
    smallest = None if evidence.single else smallest_loss(result, evidence.mde, tested)
    upper = finite(_upper(check, evidence, divided))
    shown = upper if divided == 1 or _computed(evidence, divided) else None
    result = result.model_copy(update={"holm_checks": divided, "holm_high": shown, "smallest_loss": smallest})
    if proven:
        among = "" if tested == 1 else f" A larger loss is proven after Holm's correction over {tested} checks, too."
        return _decided(result, "fail", f"{finding(result)}.{among}")
    if upper is None:  # the plain interval shows a loss, but there is no wider one to prove it
        needed = max(fewest_units(1 - (1 - result.confidence) / divided), result.n + 1)
        sentence = (
            f"{finding(result)}. The interval shows a larger loss, but with "
            f"{counted(result.n, result.units)} there is no interval that could prove it among {divided} checks "
            "(Holm's correction)."
        )
        return _decided(result, "inconclusive", sentence, needed_n=needed)
    seen = "" if smallest is None else f" ({loss_text(result)} would be detected with 80 % power)"
    return _decided(result, "pass", f"{finding(result)}; no larger loss is proven{seen}.")


def smallest_loss(result: CheckResult, mde: float | None, tested: int) -> float | None:
    """Return the true loss that this check proves with 80 % power at Holm's first step over ``tested`` checks.

    Based on the comparison's minimum detectable effect, else on the width of the interval. None if there are too few
    units to prove any loss at that confidence.
    """
    divided = 1 - (1 - result.confidence) / tested
    if result.n < fewest_units(divided):
        return None
    if mde is None or not math.isfinite(mde):
        if result.oriented_low is None or result.oriented_high is None:
            return None
        mde = (result.oriented_high - result.oriented_low) / (2 * critical_value(result.confidence))
        mde *= critical_sum(result.confidence)
    allowed = abs(result.oriented_limit or 0.0)
    if result.scaled_other is not None:  # the number already includes the limit, a share of the other value
        allowed = abs(1 - result.scaled_other) * abs(result.other_value or 0.0)
    return allowed + abs(mde) * critical_sum(divided) / critical_sum(result.confidence)


def _decided(result: CheckResult, verdict: VerdictName, sentence: str, *, needed_n: int | None = None) -> CheckResult:
    return result.model_copy(update={"verdict": verdict, "sentence": sentence, "needed_n": needed_n})


def finite(value: float | None) -> float | None:
    """Return the value, or None for NaN and infinity, which JSON cannot represent."""
    return value if value is not None and math.isfinite(value) else None
