"""How the gate writes numbers and limits where it shows its computation: in ``--explain``, JUnit and Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from harness.gating.amounts import unit_of
from harness.gating.evidence import Evidence
from harness.gating.policy import Check
from harness.gating.verdict import CheckResult

_CONTROLS = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def number(value: float | None) -> str:
    """Return a number with four significant digits, or a dash."""
    if value is None:
        return "–"
    text = f"{value:.4g}" if abs(value) < 10_000 else f"{value:,.0f}"
    return text.replace("-", "−") if text.startswith("-") else text


def with_unit(text: str, unit: str) -> str:
    """Append the unit, unless it adds nothing to the number."""
    return text if unit in ("", "ratio") or unit.startswith("share") else f"{text} {unit}"


def interval_text(result: CheckResult) -> str:
    """Return ``difference −0.01 [−0.02, 0.005]``: the value as measured with its interval."""
    name = {"value": "", "difference": "difference ", "ratio": "ratio "}[result.scale]
    if result.scaled_other is not None:
        name = f"candidate − {number(result.scaled_other)} × other: "
    return f"{name}{number(result.value)} [{number(result.low)}, {number(result.high)}]"


def loss_text(result: CheckResult) -> str:
    """Return the smallest loss that a no_regression check would detect, e.g. ``a loss of 3.1 %``."""
    if result.smallest_loss is None:
        return "no loss"
    if result.scale == "ratio":
        return f"a loss of {number(100 * result.smallest_loss)} %"
    unit = unit_of(result.unit)
    return f"a loss of {number(result.smallest_loss * unit.factor)}{unit.difference}"


def requirement(check: Check, evidence: Evidence, sign: int, origin: float, limit: float) -> str:
    """Return what is required of the number as measured, e.g. ``ratio ≤ 1.1``."""
    unit = "" if evidence.scale == "ratio" else evidence.unit
    relation = "≥" if sign > 0 else "≤"
    if check.rule == "equivalence":
        low, high = number(origin - check.margin), number(origin + check.margin)
        return with_unit(f"{'ratio' if evidence.scale == 'ratio' else 'difference'} between {low} and {high}", unit)
    if evidence.scaled_other is not None:
        return f"{evidence.metric} {relation} {number(evidence.scaled_other)} × {evidence.against}'s"
    if check.is_relative and evidence.scale == "value":  # nothing was measured that the share could be taken of
        return f"{evidence.metric} {relation} {number(1 - sign * check.margin)} × {evidence.against}'s"
    name = {"value": evidence.metric, "difference": "difference", "ratio": "ratio"}[evidence.scale]
    return with_unit(f"{name} {relation} {number(origin + sign * limit)}", unit)


def who(check: CheckResult) -> str:
    """Return what a check is about: ``adapter against base on clinic where condition=asthma``."""
    against = f" against {check.against}" if check.against else ""
    on = f" on {check.set}" if check.set else ""
    return check.candidate + against + on + (f" where {check.slice}" if check.slice else "")


def counted(number: int, units: str) -> str:
    """Return ``1 dialogue`` or ``19,901 dialogues``."""
    return f"{number:,} {units.removesuffix('s') if number == 1 else units}"


def heading(together: Sequence[CheckResult]) -> tuple[str, str]:
    """Return the ids of checks that are told together, and what they are about if that is the same for all."""
    about = {f"{who(check)}, {counted(check.n, check.units)}" if check.n else who(check) for check in together}
    return ", ".join(check.id for check in together), about.pop() if len(about) == 1 else ""


def told_together(checks: Iterable[CheckResult]) -> list[list[CheckResult]]:
    """Return the checks in their order, those that were left undecided for the same reason as one."""
    groups: dict[tuple[object, ...], list[CheckResult]] = {}
    for check in checks:
        alone = check.id if check.verdict in ("pass", "fail") else (check.verdict, check.decides)
        groups.setdefault((alone, check.sentence), []).append(check)
    return list(groups.values())


def shared_warnings(checks: Iterable[CheckResult]) -> list[str]:
    """Return each warning of the checks once, after the ids of all checks that have it.

    A check over too few units says so as its reason; what else is uncertain about it matters to no one.
    """
    checks_by_warning: dict[str, list[str]] = {}
    for check in checks:
        too_few = check.verdict == "inconclusive" and check.n < check.min_samples
        for warning in () if too_few else check.warnings:
            checks_by_warning.setdefault(warning, []).append(check.id)
    return [f"{', '.join(ids)}: {warning}" for warning, ids in checks_by_warning.items()]


def listed(names: Iterable[str], most: int = 5) -> str:
    """Return the names as text, truncated after ``most``."""
    names = list(names)
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def without_controls(text: str) -> str:
    """Replace control characters and lone surrogates, which XML cannot represent, with ``�``."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)
