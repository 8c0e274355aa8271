"""One check's computation, step by step, using only the contents of ``gate.json``."""

from __future__ import annotations

from harness.gating.sentences import counted, interval_text, listed, loss_text, number, who, with_unit
from harness.gating.verdict import CheckResult


def explain(check: CheckResult) -> list[str]:
    """Return the steps that led to the verdict, one per line."""
    steps = [_question(check)]
    if check.n:
        steps.append(_measured(check))
    if check.oriented_limit is not None and check.oriented_value is not None:
        steps.append(_turned(check))
    if check.n and check.min_samples:
        relation = "≥" if check.n >= check.min_samples else "<"
        steps.append(f"Enough {check.units}? n = {check.n:,} {relation} {check.min_samples:,}.")
    if check.must_pass_failed:
        steps.append(f"Dialogues that must pass but do not: {listed(check.must_pass_failed, 20)}.")
    if check.must_pass_missing:
        steps.append(f"Dialogues that must pass but have no value: {listed(check.must_pass_missing, 20)}.")
    if check.verdict != "error":
        steps.extend(_rule(check))
    if check.needed_n:
        steps.append(f"About {check.needed_n:,} {check.units} would decide it if value and spread stayed the same.")
    steps.append(f"Verdict: {check.verdict}. {check.sentence}")
    return steps


def _question(check: CheckResult) -> str:
    return f"{check.rule} on {check.metric} of {who(check)}: required is {check.requirement}."


def _measured(check: CheckResult) -> str:
    both = ""
    if check.candidate_value is not None and check.other_value is not None:
        both = f"{number(check.candidate_value)} and {number(check.other_value)}; "
    shown = with_unit(interval_text(check), "" if check.scale == "ratio" else check.unit)
    method = f", {check.method}" if check.method else ""
    level = f"{number(100 * check.confidence)} % two-sided"
    return f"Measured: {both}{shown} at {level}, n = {counted(check.n, check.units)}{method}."


def _turned(check: CheckResult) -> str:
    better = {True: "higher is better", False: "lower is better", None: "neither direction is better"}
    upper = "" if check.upper_limit is None else f" and {number(-(check.oriented_limit or 0.0))}"
    return (
        f"Oriented so that larger is better ({better[check.higher_is_better]}; the rule is {check.rule}): "
        f"value {number(check.oriented_value)}, L = {number(check.oriented_low)}, U = {number(check.oriented_high)}, "
        f"limit m = {number(check.oriented_limit)}{upper}."
    )


def _rule(check: CheckResult) -> list[str]:
    if check.n < check.min_samples or check.must_pass_failed:
        return []
    if check.judge == "point":
        return ["judge: point, so the value is used as both ends of its interval."]
    if check.rule == "no_regression":
        steps = []
        if check.holm_checks is not None and check.holm_high is None:
            if check.verdict == "inconclusive":
                steps.append(
                    f"U < m shows a loss, and Holm's procedure divides the error by {check.holm_checks}: "
                    f"with n = {counted(check.n, check.units)} there is no interval at that confidence."
                )
            else:
                limit = number(check.oriented_limit)
                steps.append(f"U is not below m = {limit}: there is no loss for Holm's procedure to prove.")
        elif check.holm_checks is not None:
            steps.append(
                f"Holm's procedure divides the error by {check.holm_checks}: U at confidence "
                f"1 − {number(1 - check.confidence)}/{check.holm_checks} is {number(check.holm_high)}; "
                f"a larger loss is proven if that is below m = {number(check.oriented_limit)}."
            )
        if check.smallest_loss is not None:
            steps.append(f"With this many {check.units}, {loss_text(check)} would be detected with 80 % power.")
        return steps
    if check.upper_limit is not None:
        return ["Rule: L and U both between the limits pass; U below the lower or L above the upper one fails."]
    low, high, limit = number(check.oriented_low), number(check.oriented_high), number(check.oriented_limit)
    return [f"Rule: L ≥ m passes, U < m fails, else inconclusive. Here L = {low}, U = {high}, m = {limit}."]
