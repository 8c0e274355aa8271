"""What a check found, in one sentence for a reader who knows the metrics and not the gate's algebra."""

from __future__ import annotations

from harness.gating.amounts import MINUS, RATIO, Unit, decimals, unit_of, written
from harness.gating.sentences import number
from harness.gating.verdict import CheckResult


def finding(result: CheckResult) -> str:
    """Return what was measured and what is allowed, each once and without the final period.

    For example ``ROUGE-L fell from 0.61 to 0.29 (−0.32, 95 % −0.33 to −0.30); at most −0.013 is allowed``.
    """
    return f"{measured(result)}; {allowed(result)}"


def measured(result: CheckResult) -> str:
    """Return what was measured, with its interval."""
    label = result.label or result.metric
    unit = unit_of(result.unit, max(abs(result.candidate_value or 0.0), abs(result.other_value or 0.0)))
    if result.scale == "value":
        digits = _digits(result, unit)
        return f"{label}: {_shown(result.value, digits, unit)}{_bracketed(_interval(result, digits, unit))}"
    signed = result.scale == "difference"
    scale = unit if signed else RATIO
    digits = _digits(result, scale)
    value = _shown(result.value, digits, scale, signed=signed)
    inside = ", ".join(filter(None, [value, _interval(result, digits, scale)]))
    if result.scaled_other is not None:
        inside = f"{result.candidate} {MINUS} {number(result.scaled_other)} × {result.against}: {inside}"
    return f"{label} {_change(result, unit, digits)} ({inside})"


def _change(result: CheckResult, unit: Unit, digits: int) -> str:
    """Return ``fell from 0.61 to 0.29``; ``changed`` if the two values are of other dialogues than the difference."""
    mine, other = result.candidate_value, result.other_value
    if mine is None or other is None:
        return "changed"
    moved = mine - other
    paired = 0.0 if result.value is None else result.value - (1.0 if result.scale == "ratio" else 0.0)
    if result.scaled_other is None and moved * paired < 0:
        return f"changed over the {result.units} that both have"
    if result.scale != "difference" or result.scaled_other is not None:  # the interval is on another scale
        digits = decimals(mine * unit.factor, None, None)
    before, after = written(other * unit.factor, digits), written(mine * unit.factor, digits)
    if before == after:
        return f"stayed at {after}{unit.value}"
    return f"{'rose' if moved > 0 else 'fell'} from {before} to {after}{unit.value}"


def _digits(result: CheckResult, unit: Unit) -> int:
    bounds = (None, None) if result.judge == "point" else (result.low, result.high)
    ends = [None if end is None else end * unit.factor for end in bounds]
    limits = [limit * unit.factor for limit in (result.limit, result.upper_limit) if limit is not None]
    value, usual = (result.value or 0.0) * unit.factor, 2 if unit is RATIO else 6
    return max(2 if unit is RATIO else 0, decimals(value, ends[0], ends[1], limits, usual=usual))


def _shown(value: float | None, digits: int, unit: Unit, *, signed: bool = False) -> str:
    if value is None:
        return number(None)
    return written(value * unit.factor, digits, signed=signed) + (unit.difference if signed else unit.value)


def _interval(result: CheckResult, digits: int, unit: Unit) -> str:
    if result.judge == "point" or (result.low is None and result.high is None):
        return ""
    signed = result.scale == "difference"
    low, high = (
        number(None) if end is None else written(end * unit.factor, digits, signed=signed)
        for end in (result.low, result.high)
    )
    return f"{100 * result.confidence:.4g} % {low} to {high}"


def _bracketed(text: str) -> str:
    return f" ({text})" if text else ""


def allowed(result: CheckResult) -> str:
    """Return what is allowed or required, as a clause: ``at most −0.013 is allowed``."""
    limit = result.limit if result.limit is not None else 0.0
    least = result.rule == "min" or (result.rule != "max" and result.higher_is_better is not False)
    unit = unit_of(result.unit)
    if result.scaled_other is not None:
        share = f"{number(result.scaled_other)} × {result.against}'s"
        return f"at least {share} is required" if least else f"at most {share} is allowed"
    if result.upper_limit is not None:
        signed = result.scale == "difference"
        scale = unit if signed else RATIO
        low = scale.limit(limit, signed=signed).removesuffix(scale.difference)
        return f"between {low} and {scale.limit(result.upper_limit, signed=signed)} is allowed"
    if result.scale != "difference":
        scale = unit if result.scale == "value" else RATIO
        return f"at least {scale.limit(limit)} is required" if least else f"at most {scale.limit(limit)} is allowed"
    if limit == 0:
        return f"no {'fall' if least else 'rise'} is allowed"
    if (limit > 0) == least:
        size = unit.limit(abs(limit), signed=True).removeprefix("+")
        return f"a {'rise' if least else 'fall'} of at least {size} is required"
    return f"at most {unit.limit(limit, signed=True)} is allowed"
