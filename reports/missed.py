"""What a failed check measured and what it allows, in one clause."""

from __future__ import annotations

from harness.gating.verdict import CheckResult
from reports.numbers import amount, is_share, plain
from reports.rules import lowered, share


def missed(check: CheckResult, label: str, candidate: str | None) -> str:
    """Return e.g. ``refusal is 12 %, and at most 10 % is allowed``; ``candidate``: whom the page is about anyway."""
    if check.must_pass_failed or check.value is None:
        return check.sentence.rstrip(".")
    whose = "" if check.candidate == candidate else f" of {check.candidate}"
    where = f" where {check.slice}" if check.slice else ""
    named = f"{lowered(label)}{whose}{where}"
    ours, theirs = check.candidate_value, check.other_value
    if check.scale == "value" or ours is None or theirs is None:
        return f"{named} is {_figure(check.value, check.unit)}, {_allowed(check)}"
    verb = "rose" if ours > theirs else "fell" if ours < theirs else "stayed"
    return f"{named} {verb} from {_figure(theirs, check.unit)} to {_figure(ours, check.unit)}, {_allowed(check)}"


def _figure(value: float, unit: str) -> str:
    return share(value) if is_share(unit) else amount(value, unit=unit)[0]


def _allowed(check: CheckResult) -> str:
    least = check.rule == "min" or (check.rule != "max" and check.higher_is_better is not False)
    word, verb = ("at least", "is required") if least else ("at most", "is allowed")
    if check.limit is None or check.upper_limit is not None or check.scaled_other is not None:
        return f"and required is: {check.requirement}"
    if check.scale == "ratio":
        return f"and {word} {plain(check.limit, 2)} times {verb}"
    if check.scale == "value":
        return f"and {word} {_figure(check.limit, check.unit)} {verb}"
    size = f"{abs(check.limit) * 100:g}\u00a0points" if is_share(check.unit) else f"{abs(check.limit):g}"
    if least == (check.limit > 0):
        return f"and it must {'rise' if least else 'fall'} by at least {size}"
    return f"and a {'fall' if least else 'rise'} of at most {size} is allowed"
