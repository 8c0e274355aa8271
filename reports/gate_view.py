"""Read ``gate.json`` for the page, and select the checks that count."""

from __future__ import annotations

from pathlib import Path

from harness.errors import InputError
from harness.files import digest_file
from harness.gating.outputs import read_current
from harness.gating.policy import thresholds_file
from harness.gating.verdict import CheckResult, GateResult, VerdictName
from harness.store.folder import RunFolder


def read_gate(folder: RunFolder) -> GateResult | None:
    """Return the verdict in ``gate.json``, or None if the run was not judged; InputError if the file is damaged.

    A verdict on other numbers than the run has now is an error that says so. A thresholds file of that name, in the
    current folder or shipped, that is not the one that was judged by, is a warning.
    """
    try:
        result = read_current(folder)
    except (OSError, ValueError) as error:
        raise InputError(f"{folder.root / 'gate.json'} cannot be read. Run the gate again to replace it.") from error
    if result is None:
        return None
    # Show only the file's name: its location is useless to a reader and may be private.
    name = Path(result.thresholds).name
    file = thresholds_file(name) if name else None
    changed = file is not None and digest_file(file) != result.thresholds_digest
    other = [f"{name} is not as it was when the gate judged by it. Run the gate again."] if changed else []
    return result.model_copy(update={"thresholds": name, "warnings": (*result.warnings, *other)})


def checks_with(gate: GateResult, verdict: VerdictName) -> list[CheckResult]:
    """Return the checks with this verdict; warnings only if no other check has it."""
    found = [check for check in gate.checks if check.verdict == verdict]
    return [check for check in found if stops(check)] or found


def stops(check: CheckResult) -> bool:
    """Return whether a failure of this check stops a release (a warning does not)."""
    return check.severity != "warn"


def too_few(check: CheckResult) -> bool:
    """Return whether the check has fewer units than the thresholds require."""
    return check.n < check.min_samples


def decisive(checks: list[CheckResult]) -> CheckResult:
    """Return the check to name where one of several is the reason: of safety, else of quality, else the first."""
    families = [check.metric.split(".", 1)[0] for check in checks]
    return checks[next((families.index(name) for name in ("safety", "quality") if name in families), 0)]
