"""The gate's checks as rows of finished text: the gate's own sentences, so that every place says the same."""

from __future__ import annotations

from dataclasses import dataclass

from harness.gating.sentences import heading, told_together
from harness.gating.verdict import PRECEDENCE, CheckResult
from reports.gate_view import stops
from reports.view import RunView
from reports.words import VERDICTS, Sign


@dataclass(frozen=True)
class CheckRow:
    """One check of the gate, or several that were left undecided for the same reason.

    ``about``: whose values, over how much; empty if that is not the same for all of them.
    """

    check: CheckResult
    ids: str
    about: str
    stops: bool
    sign: Sign


def gate_rows(view: RunView) -> tuple[CheckRow, ...]:
    """Return the gate's checks, those that decide the verdict first."""
    if view.gate is None:
        return ()
    ranked = sorted(view.gate.checks, key=lambda check: (PRECEDENCE.index(check.verdict), not stops(check)))
    return tuple(_row(together) for together in told_together(ranked))


def _row(together: list[CheckResult]) -> CheckRow:
    check = together[0]
    return CheckRow(check, *heading(together), stops(check), VERDICTS[check.verdict])
