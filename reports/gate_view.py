"""What ``gate.json`` says, as the page shows it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.errors import InputError
from harness.gating.outputs import read
from harness.gating.verdict import CheckResult, VerdictName


@dataclass(frozen=True)
class CheckView:
    """One line of the thresholds file and what became of it."""

    result: CheckResult

    @property
    def edges(self) -> tuple[float, ...]:
        """Its limits on the axis of the difference or ratio to another variant; none where it judges something else."""
        check = self.result
        if check.scale == "value" or check.slice is not None or check.scaled_other is not None:
            return ()
        return tuple(limit for limit in (check.limit, check.upper_limit) if limit is not None)

    @property
    def id(self) -> str:
        return self.result.id

    @property
    def metric(self) -> str:
        return self.result.metric

    @property
    def verdict(self) -> VerdictName:
        return self.result.verdict

    @property
    def too_few(self) -> bool:
        """Whether it was not judged for want of the units that the thresholds ask for."""
        return self.result.n < self.result.min_samples

    @property
    def stops(self) -> bool:
        """Whether this check, had it failed, would stop a release (a warning would not)."""
        return self.result.severity != "warn"


@dataclass(frozen=True)
class GateView:
    """The gate's verdict over all checks. ``problems`` are errors of the whole run."""

    verdict: VerdictName
    candidate: str
    checks: tuple[CheckView, ...]
    thresholds: str
    sentence: str
    problems: tuple[str, ...]
    warnings: tuple[str, ...]

    def of(self, verdict: VerdictName, *, warnings: bool = True) -> tuple[CheckView, ...]:
        """Return the checks with this verdict; without ``warnings`` only those that can stop a release."""
        return tuple(check for check in self.checks if check.verdict == verdict and (warnings or check.stops))


def read_gate(path: Path) -> GateView | None:
    """Return what ``gate.json`` says; None where the run was not judged; InputError where the file is damaged."""
    if not path.is_file():
        return None
    try:
        result = read(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read. Run the gate again to replace it.") from error
    return GateView(
        verdict=result.verdict,
        candidate=result.candidate,
        checks=tuple(CheckView(check) for check in result.checks),
        thresholds=Path(result.thresholds).name,
        sentence=result.sentence,
        problems=result.problems,
        warnings=result.warnings,
    )
