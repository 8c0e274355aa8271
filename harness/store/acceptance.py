"""What ``baselines/history.jsonl`` records of an accepted run: enough to show how baselines moved once it is gone."""

from __future__ import annotations

from typing import Literal

from pydantic import FiniteFloat

from harness.files import Row


class AcceptedChange(Row):
    """A metric's change since the run that was accepted before, as a gate compares the two: paired by dialogue.

    If ``relative`` (timings), the numbers are the ratio of this run to that one. Where the two may not be compared,
    ``obstacle`` says why, and there are no numbers.
    """

    value: FiniteFloat | None = None
    low: FiniteFloat | None = None
    high: FiniteFloat | None = None
    relative: bool = False
    outcome: Literal["better", "worse", "undecided", "equal", "different"] = "undecided"
    obstacle: str = ""


class AcceptedMetric(Row):
    """A metric of one variant with its two-sided 95 % interval, as in the run's ``summary.json``.

    ``set`` is the held-out set, if a check names one; else the first.
    """

    metric: str
    set: str | None = None
    variant: str
    label: str = ""
    unit: str = ""
    higher_is_better: bool | None = None
    signature: str = ""
    value: FiniteFloat | None = None
    low: FiniteFloat | None = None
    high: FiniteFloat | None = None
    n: int = 0
    change: AcceptedChange | None = None


class Measured(Row):
    """What was measured of an accepted run: the metrics that its gate checks, or a few without a gate."""

    candidate: str
    metrics: tuple[AcceptedMetric, ...] = ()


class Acceptance(Row):
    """One line of ``history.jsonl``: the SHA-256 of the accepted run's ``run.json`` and of its ``summary.json``.

    ``replaced`` is the ``numbers_digest`` of the run that had the name until then. ``references_digest`` and
    ``prompts_digest`` are those of the held-out dialogues. What lines of earlier versions lack is None.
    """

    name: str
    when: str
    who: str
    reason: str
    run: str
    run_digest: str
    numbers_digest: str | None = None
    gate: str
    forced: bool = False
    redacted: bool = False
    replaced: str | None = None
    references_digest: str | None = None
    prompts_digest: str | None = None
    measured: Measured | None = None
