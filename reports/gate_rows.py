"""The gate's checks as rows of finished text: the gate's own sentences, so that every place says the same."""

from __future__ import annotations

from dataclasses import dataclass

from harness.gating.sentences import told_together, who
from harness.gating.verdict import PRECEDENCE, CheckResult
from reports.gate_view import stops
from reports.numbers import plain
from reports.view import RunView
from reports.words import VERDICTS, Sign


@dataclass(frozen=True)
class CheckRow:
    """One check of the gate, or several that give the same reason. ``about``: whose values, over how much."""

    check: CheckResult
    ids: str
    stops: bool
    sign: Sign
    about: str


def gate_rows(view: RunView) -> tuple[CheckRow, ...]:
    """Return the gate's checks, those that decide the verdict first."""
    if view.gate is None:
        return ()
    ranked = sorted(view.gate.checks, key=lambda check: (PRECEDENCE.index(check.verdict), not stops(check)))
    return tuple(_row(together) for together in told_together(ranked))


def _row(together: list[CheckResult]) -> CheckRow:
    check = together[0]
    about = f"{who(check)}, {plain(float(check.n), 0)} {check.units}" if check.n else who(check)
    return CheckRow(check, ", ".join(one.id for one in together), stops(check), VERDICTS[check.verdict], about)
