"""``gate.json`` as the page reads it, and which of its checks count."""

from __future__ import annotations

from pathlib import Path

from harness.errors import InputError
from harness.gating.outputs import read
from harness.gating.verdict import CheckResult, GateResult, VerdictName


def read_gate(path: Path) -> GateResult | None:
    """Return what ``gate.json`` says; None where the run was not judged; InputError where the file is damaged."""
    if not path.is_file():
        return None
    try:
        result = read(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read. Run the gate again to replace it.") from error
    # The page names the file; where it lies is of no use to a reader, and may be private.
    return result.model_copy(update={"thresholds": Path(result.thresholds).name})


def checks_with(gate: GateResult, verdict: VerdictName) -> list[CheckResult]:
    """Return the checks with this verdict; warnings only where nothing else has it."""
    found = [check for check in gate.checks if check.verdict == verdict]
    return [check for check in found if stops(check)] or found


def stops(check: CheckResult) -> bool:
    """Whether this check, had it failed, would stop a release (a warning would not)."""
    return check.severity != "warn"


def too_few(check: CheckResult) -> bool:
    """Whether it was not judged for want of the units that the thresholds ask for."""
    return check.n < check.min_samples
