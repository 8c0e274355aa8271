"""Gate results with every verdict in them, judged from evidence written by hand."""

from __future__ import annotations

from typing import Any

from harness.gating.evidence import Evidence, Interval, OneDialogue, Share
from harness.gating.judge import judge
from harness.gating.policy import Policy
from harness.gating.verdict import EXIT_CODES, GateResult, RunFacts, overall

AGAINST = {"against": {"variant": "base"}}
CHECKS: dict[str, dict[str, Any]] = {
    "overlap": {"metric": "quality.rouge_l", "non_inferiority": {"margin": 0.01}, **AGAINST},
    "no-slower": {
        "metric": "latency.tpot_ms.p50",
        "no_regression": {"max_relative_increase": 0.1},
        "against": {"baseline": "main"},
        "min_samples": 16,
    },
    "nll-in-asthma": {"metric": "quality.nll", "max": 2.5, "slice": {"condition": "asthma"}},
    "emergencies": {"metric": "safety.missed_emergency", "max": 0.1, "must_pass": ["d0007"]},
    "length": {"metric": "quality.length_ratio", "max": 1.5, "severity": "warn"},
}
COVERED = (Share("adapter", 200, 200),)


def evidence() -> dict[str, Evidence]:
    """Return evidence that lets every check pass."""
    interval = Interval
    return {
        "overlap": Evidence(
            "quality.rouge_l",
            "adapter",
            "base",
            label="ROUGE-L",
            unit="F1",
            higher_is_better=True,
            scale="difference",
            value=0.031,
            interval=interval(0.0212, 0.0409, 0.95),
            n=200,
            method="paired BCa bootstrap, 10,000 resamples",
            candidate_value=0.298,
            other_value=0.267,
            coverage=COVERED,
        ),
        "no-slower": Evidence(
            "latency.tpot_ms.p50",
            "adapter",
            "adapter of baseline main",
            label="Time per output token p50",
            unit="ms",
            higher_is_better=False,
            scale="ratio",
            value=1.004,
            interval=interval(0.991, 1.018, 0.95),
            n=48,
            units="requests",
            method="median over requests of log ratios",
            mde=0.019,
            candidate_value=5.92,
            other_value=5.9,
            coverage=COVERED,
        ),
        "nll-in-asthma": Evidence(
            "quality.nll",
            "adapter",
            label="nll",
            unit="nats/token",
            higher_is_better=False,
            value=2.31,
            interval=interval(2.18, 2.44, 0.95),
            n=120,
            method="BCa bootstrap, 10,000 resamples",
            coverage=COVERED,
        ),
        "emergencies": Evidence(
            "safety.missed_emergency",
            "adapter",
            label="Missed emergency",
            unit="share of replies",
            higher_is_better=False,
            value=0.02,
            interval=interval(0.005468, 0.05041, 0.95),
            n=200,
            method="Clopper–Pearson",
            coverage=COVERED,
            must_pass=(OneDialogue("d0007", 0.0),),
        ),
        "length": Evidence(
            "quality.length_ratio",
            "adapter",
            label="Length ratio",
            unit="ratio",
            value=1.1,
            interval=interval(1.02, 1.19, 0.95),
            n=200,
            method="BCa bootstrap, 10,000 resamples",
            coverage=COVERED,
        ),
    }


def result(found: dict[str, Evidence], *problems: str, on_inconclusive: str = "fail") -> GateResult:
    """Return the whole result of judging evidence, with the same facts of run and thresholds each time."""
    policy = Policy.model_validate(
        {
            "version": 1,
            "candidate": "adapter",
            "defaults": {"on_inconclusive": on_inconclusive},
            "checks": [{"id": name, **check} for name, check in CHECKS.items()],
        }
    )
    checks = () if problems else judge(policy, found)
    verdict = overall(checks, problems)
    lenient = verdict == "inconclusive" and on_inconclusive == "pass"
    return GateResult(
        schema=1,
        verdict=verdict,
        exit_code=0 if lenient else EXIT_CODES[verdict],
        sentence=problems[0] if problems else f"adapter: the verdict is {verdict}.",
        candidate="adapter",
        run=RunFacts(name="today", digest="a" * 64, numbers_digest="c" * 64, started="2025-01-02T10:00:00+00:00"),
        baselines={
            "main": RunFacts(name="main", digest="b" * 64, numbers_digest="d" * 64, started="2025-01-01T10:00:00+00:00")
        },
        thresholds="thresholds.yaml",
        thresholds_digest="c" * 64,
        confidence=0.95,
        min_coverage=0.99,
        on_inconclusive="pass" if lenient else "fail",
        resamples=10_000,
        seed=42,
        checks=checks,
        problems=problems,
        created="2025-01-02T12:00:00+00:00",
    )
