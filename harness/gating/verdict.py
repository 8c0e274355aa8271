"""The gate's decision, as in ``gate.json``: pydantic models, so that pages and scripts can read it back.

``schema`` is 1. Fields may be added under that number; none is removed or changes its meaning.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from harness.files import Row

VerdictName = Literal["pass", "fail", "error", "inconclusive"]

PRECEDENCE: tuple[VerdictName, ...] = ("fail", "error", "inconclusive", "pass")
EXIT_CODES: dict[VerdictName, int] = {"pass": 0, "fail": 1, "inconclusive": 3, "error": 4}


class CheckResult(Row):
    """One check's verdict with every number behind it.

    ``value``, ``low``, ``high`` are as measured (``scale``: value, difference or ratio) at ``confidence``.
    ``limit`` is what they are compared with, on the same scale (for equivalence the lower of two; ``upper_limit`` is
    the other), and ``requirement`` is its text. ``oriented_*`` are the same numbers with larger being better.
    """

    id: str
    metric: str
    label: str = Field("", description="the metric's name in words")
    verdict: VerdictName
    severity: Literal["fail", "warn"] = "fail"
    sentence: str = Field(description="why, in one sentence")
    rule: str
    requirement: str
    candidate: str
    against: str | None = None
    slice: str | None = None
    judge: Literal["bound", "point"] = "bound"
    unit: str = ""
    higher_is_better: bool | None = None
    scale: Literal["value", "difference", "ratio"] = "value"
    scaled_other: float | None = None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    confidence: float = 0.95
    candidate_value: float | None = None
    other_value: float | None = None
    oriented_value: float | None = None
    oriented_low: float | None = None
    oriented_high: float | None = None
    oriented_limit: float | None = None
    limit: float | None = None
    upper_limit: float | None = None
    n: int = 0
    units: str = "dialogues"
    min_samples: int = 0
    needed_n: int | None = Field(None, description="units that would decide an inconclusive check")
    smallest_loss: float | None = Field(None, description="no_regression: the true loss found 80 times in 100")
    holm_checks: int | None = Field(None, description="no_regression: by how many Holm's procedure divided")
    holm_high: float | None = Field(None, description="the oriented upper bound after Holm")
    method: str = ""
    must_pass_failed: tuple[str, ...] = ()
    must_pass_missing: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def decides(self) -> bool:
        """Whether the verdict counts: a warning does not, unless the check could not be made."""
        return self.severity == "fail" or self.verdict == "error"


class RunFacts(Row):
    """What identifies a run: its folder's name, the SHA-256 of its run.json (which has those of all other files).

    ``numbers_digest`` is the SHA-256 of its summary.json: the verdict holds for a run with these numbers. None in files
    of earlier versions, and if the run had no numbers.
    """

    name: str
    digest: str
    numbers_digest: str | None = None
    config_digest: str = ""
    started: str = ""
    git_commit: str | None = None


class GateResult(Row):
    """``gate.json``. ``problems`` are errors of the whole run (unfinished, edited, nothing to check)."""

    schema_version: Literal[1] = Field(1, alias="schema")
    verdict: VerdictName
    exit_code: int
    sentence: str
    candidate: str
    run: RunFacts
    baselines: dict[str, RunFacts] = Field(default_factory=dict)
    thresholds: str
    thresholds_digest: str
    confidence: float
    min_coverage: float
    on_inconclusive: Literal["fail", "pass"]
    resamples: int | None = None
    seed: int | None = None
    checks: tuple[CheckResult, ...] = ()
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    created: str = ""

    def check(self, check_id: str) -> CheckResult:
        """Return the result of one check; raise KeyError if there is none with that id."""
        for result in self.checks:
            if result.id == check_id:
                return result
        raise KeyError(check_id)


def overall(checks: tuple[CheckResult, ...], problems: tuple[str, ...]) -> VerdictName:
    """Return the worst verdict that counts: fail before error before inconclusive before pass.

    No checks at all is an error. If every check only warns, the verdict is a pass.
    """
    verdicts: set[VerdictName] = {check.verdict for check in checks if check.decides}
    if problems or not checks:
        verdicts.add("error")
    return next((verdict for verdict in PRECEDENCE if verdict in verdicts), "pass")
