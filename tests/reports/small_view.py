"""Views made of a few numbers, for tests of what the page says about them."""

from __future__ import annotations

from typing import Any

from harness.gating.verdict import EXIT_CODES, CheckResult, GateResult, RunFacts, VerdictName
from harness.store.folder import RunFolder
from harness.store.schema import (
    ComparisonRow,
    Coverage,
    EstimateRow,
    MetricSummary,
    RunManifest,
    SanityCheck,
    Summary,
)
from reports.view import RunView

KINDS = {"base": "base", "base-nf4": "base", "adapter": "adapter", "merged": "merged"}
UNITS: dict[str, tuple[str, bool | None, str]] = {
    "quality.rouge_l": ("F1", True, "ROUGE-L"),
    "quality.nll": ("nats/token", False, "nll"),
    "quality.empty": ("share of replies", False, "empty reply"),
    "quality.truncated": ("share of replies", False, "truncated"),
    "quality.looping": ("share of replies", False, "looping reply"),
    "quality.prompt_leak": ("share of replies", False, "prompt in the reply"),
    "quality.collapse": ("share of replies", False, "same reply"),
    "safety.missed_emergency": ("share of replies", False, "missed emergency"),
    "safety.refusal": ("share of replies", False, "refusal"),
    "safety.unsupported_numbers": ("share of replies", False, "unsupported number"),
    "safety.medication_recall": ("share of medications", True, "medication recall"),
    "latency.tpot_ms.p50": ("ms", False, "TPOT, median"),
    "memory.peak_allocated_mib": ("MiB", False, "peak allocated"),
}


def compared(metric: str, outcome: Any, value: float, **facts: Any) -> ComparisonRow:
    """Return a comparison with a plausible interval around its value."""
    known = {"variant": "adapter", "against": "base", "low": value - 0.02, "high": value + 0.02, "n": 120, **facts}
    return ComparisonRow(metric=metric, outcome=outcome, value=value, **known)


def estimates(values: dict[str, dict[str, float]]) -> dict[str, MetricSummary]:
    """Return metrics with these values by variant."""
    return {
        name: MetricSummary(
            unit=UNITS[name][0],
            higher_is_better=UNITS[name][1],
            signature="test",
            label=UNITS[name][2],
            variants={variant: EstimateRow(value=value, n=120) for variant, value in row.items()},
        )
        for name, row in values.items()
    }


def checked(verdict: VerdictName, metric: str = "safety.missed_emergency", **facts: Any) -> CheckResult:
    """Return one judged check."""
    known = {
        "id": "a-check",
        "sentence": "Because.",
        "rule": "max",
        "requirement": "≤ 0.1",
        "candidate": "adapter",
        **facts,
    }
    return CheckResult(metric=metric, verdict=verdict, **known)


def gated(verdict: VerdictName, *checks: CheckResult, problems: tuple[str, ...] = ()) -> GateResult:
    """Return a gate's result."""
    return GateResult(
        verdict=verdict,
        exit_code=EXIT_CODES[verdict],
        sentence="",
        candidate="adapter",
        run=RunFacts(name="run", digest=""),
        thresholds="thresholds.yaml",
        thresholds_digest="",
        confidence=0.95,
        min_coverage=0.99,
        on_inconclusive="fail",
        checks=checks,
        problems=problems,
    )


def make_view(
    *comparisons: ComparisonRow,
    values: dict[str, dict[str, float]] | None = None,
    variants: tuple[str, ...] = ("base", "adapter"),
    gate: GateResult | None = None,
    state: Any = "complete",
    kind: Any = "run",
    sanity: tuple[SanityCheck, ...] = (),
    answered: int = 120,
    dialogues: int = 120,
) -> RunView:
    """Return a view; metrics that only a comparison names get values of their own."""
    values = values or {}
    for row in comparisons:
        values.setdefault(row.metric, dict.fromkeys(variants, 0.5))
    manifest = RunManifest(
        state=state,
        kind=kind,
        config={},
        config_digest="d",
        variants=tuple({"name": name, "kind": KINDS.get(name, ""), "model": "m"} for name in variants),
        reference_variant=variants[0],
        sanity=sanity,
    )
    coverage = {name: Coverage(dialogues=dialogues, answered=answered) for name in variants}
    summary = Summary(metrics=estimates(values), comparisons=comparisons, coverage=coverage)
    replies: dict[str, dict[str, Any]] = {name: {} for name in variants}
    view = RunView(RunFolder("run"), manifest, summary, (), replies, gate)
    vars(view)["places"] = ()  # there is no folder with replies to rank by
    return view
