"""What ``gate.json`` says, as the page shows it.

Read leniently: a run judged by an older or newer harness still gets its page, with what could be understood.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness.errors import InputError

GateVerdict = Literal["pass", "fail", "inconclusive", "error"]
_VERDICTS: tuple[GateVerdict, ...] = ("pass", "fail", "inconclusive", "error")


@dataclass(frozen=True)
class CheckView:
    """One line of the thresholds file and what became of it."""

    id: str
    metric: str
    variant: str | None
    against: str | None
    rule: str
    verdict: GateVerdict
    severity: str
    value: float | None
    low: float | None
    high: float | None
    limit: float | None
    n: int | None
    needed_n: int | None
    message: str

    @property
    def stops(self) -> bool:
        """Whether this check, had it failed, would stop a release (a warning would not)."""
        return self.severity != "warn"


@dataclass(frozen=True)
class GateView:
    """The gate's verdict over all checks."""

    verdict: GateVerdict
    candidate: str | None
    checks: tuple[CheckView, ...]
    thresholds: str
    digest: str
    message: str

    def of(self, verdict: GateVerdict, *, warnings: bool = True) -> tuple[CheckView, ...]:
        """Return the checks with this verdict; without ``warnings`` only those that can stop a release."""
        return tuple(check for check in self.checks if check.verdict == verdict and (warnings or check.stops))


def read_gate(path: Path) -> GateView | None:
    """Return what ``gate.json`` says; None where the run was not judged; InputError where the file is damaged."""
    if not path.is_file():
        return None
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({str(error)[:80]}). Run the gate again to replace it.") from error
    if not isinstance(raw, Mapping) or _verdict(raw) is None:
        raise InputError(f"{path} holds no verdict. Run the gate again to replace it.")
    thresholds = raw.get("thresholds")
    named = thresholds if isinstance(thresholds, Mapping) else {}
    return GateView(
        verdict=_verdict(raw) or "error",
        candidate=_text(raw.get("candidate")) or None,
        checks=tuple(_check(row) for row in raw.get("checks") or () if isinstance(row, Mapping)),
        thresholds=_text(named.get("path")) or _text(raw.get("thresholds_path")) or _text(thresholds, only=str),
        digest=_text(named.get("digest")) or _text(raw.get("thresholds_digest")),
        message=_text(raw.get("message")) or _text(raw.get("sentence")),
    )


def _check(row: Mapping[str, Any]) -> CheckView:
    return CheckView(
        id=_text(row.get("id")) or _text(row.get("metric")),
        metric=_text(row.get("metric")),
        variant=_text(row.get("variant")) or _text(row.get("candidate")) or None,
        against=_against(row.get("against")),
        rule=_text(row.get("rule")) or _text(row.get("kind")),
        verdict=_verdict(row) or "error",
        severity=_text(row.get("severity")) or "fail",
        value=_number(row.get("value")),
        low=_number(row.get("low")),
        high=_number(row.get("high")),
        limit=_first(row, "limit", "margin", "max_drop", "max_relative_increase"),
        n=_whole(row.get("n")),
        needed_n=_whole(row.get("needed_n")),
        message=_text(row.get("message")) or _text(row.get("reason")) or _text(row.get("sentence")),
    )


def _verdict(raw: Mapping[str, Any]) -> GateVerdict | None:
    value = raw.get("verdict") or raw.get("outcome") or raw.get("status")
    return next((known for known in _VERDICTS if known == value), None)


def _against(value: Any) -> str | None:
    if isinstance(value, Mapping):
        parts = [_text(value.get("baseline")), _text(value.get("variant"))]
        return ", ".join(part for part in parts if part) or None
    return _text(value) or None


def _text(value: Any, only: type | None = None) -> str:
    if value is None or (only is not None and not isinstance(value, only)):
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _whole(value: Any) -> int | None:
    number = _number(value)
    return None if number is None or number != number or abs(number) == float("inf") else int(number)


def _first(row: Mapping[str, Any], *keys: str) -> float | None:
    return next((number for key in keys if (number := _number(row.get(key))) is not None), None)
