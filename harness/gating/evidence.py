"""The input of the judge: plain frozen facts, one ``Evidence`` for each check.

Values are as measured, in the metric's own unit and orientation; the judge orients them so that larger is better.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Scale = Literal["value", "difference", "ratio"]


@dataclass(frozen=True)
class Interval:
    """The two-sided interval at ``confidence``; an end is None if no valid one exists."""

    low: float | None
    high: float | None
    confidence: float


@dataclass(frozen=True)
class Share:
    """The coverage of a variant. ``label`` names the variant, and its baseline if it is from one.

    ``did``: what was done with ``answered`` of the dialogues. ``missing``: why how many of the others are missing.
    ``context``: the most tokens that the variant's model accepts, if the run recorded it.
    """

    label: str
    answered: int
    dialogues: int
    did: str = "answered"
    missing: Mapping[str, int] = field(default_factory=dict)
    context: int | None = None

    @property
    def value(self) -> float:
        return self.answered / self.dialogues if self.dialogues else 0.0


@dataclass(frozen=True)
class OneDialogue:
    """A check's number for a single dialogue, or None if there is none."""

    id: str
    value: float | None


@dataclass(frozen=True)
class Evidence:
    """Everything known for one check.

    ``scale``: a plain value; candidate minus other; or candidate/other (timings).
    ``scaled_other``: for a relative margin on a metric that is not a ratio, the difference is candidate −
    scaled_other·other with limit 0, so that the interval includes the uncertainty of the other value.
    ``steps[k]`` is the interval at confidence 1 − (1 − confidence)/(k + 2), as Holm's procedure needs it for
    ``no_regression``; given only if the plain interval already shows a loss.
    ``problem`` is the reason why the check cannot be judged; it makes the verdict an error.
    """

    metric: str
    candidate: str
    against: str | None = None
    label: str = ""
    unit: str = ""
    higher_is_better: bool | None = None
    scale: Scale = "value"
    scaled_other: float | None = None
    value: float | None = None
    interval: Interval = Interval(None, None, 0.95)
    n: int = 0
    units: str = "dialogues"
    method: str = ""
    single: bool = False  # measured once, not over dialogues: the file's default min_samples does not apply
    mde: float | None = None
    candidate_value: float | None = None
    other_value: float | None = None
    steps: tuple[Interval, ...] = ()
    coverage: tuple[Share, ...] = ()
    must_pass: tuple[OneDialogue, ...] = ()
    warnings: tuple[str, ...] = ()
    problem: str | None = None
