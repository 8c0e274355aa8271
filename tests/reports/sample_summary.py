"""The made-up run's summary: estimates and differences with normal approximations, of every outcome."""

from __future__ import annotations

import numpy as np

from harness.metrics.loading import all_specs
from harness.results.summarize import summarize
from harness.store.folder import RunFolder
from harness.store.schema import ComparisonRow, Coverage, DialogueRow, EstimateRow, MetricSummary, SliceRow, Summary
from tests.reports.sample_facts import METRICS, Poison, Sample


def _estimate(values: np.ndarray) -> EstimateRow:
    half = 1.96 * float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else 0.0
    mean = float(values.mean())
    if half == 0.0:
        return EstimateRow(
            value=mean, low=0.0, high=1 - 0.025 ** (1 / len(values)), n=len(values), method="Clopper–Pearson"
        )
    return EstimateRow(
        value=mean, low=max(0.0, mean - half), high=mean + half, n=len(values), method="BCa bootstrap, 10,000 resamples"
    )


def _difference(metric: str, variant: str, against: str, ours: np.ndarray, theirs: np.ndarray) -> ComparisonRow:
    direction = METRICS[metric][1]
    delta = ours - theirs
    n = len(delta)
    mean, spread = float(delta.mean()), float(delta.std(ddof=1)) / n**0.5 if n > 1 else 0.0
    low, high = mean - 1.96 * spread, mean + 1.96 * spread
    better = delta if direction in (True, None) else -delta
    if spread == 0.0:
        outcome, low, high = "equal", -0.03, 0.03
    elif low <= 0 <= high:
        outcome = "undecided"
    elif direction is None:
        outcome = "different"
    else:
        outcome = "better" if (mean > 0) == direction else "worse"
    needed = int(n * (2.8 * spread / max(abs(mean), 1e-3)) ** 2) + 1 if outcome == "undecided" else None
    return ComparisonRow(
        metric=metric,
        variant=variant,
        against=against,
        value=mean,
        low=low,
        high=high,
        n=n,
        mde=2.8 * spread,
        outcome=outcome,
        needed_n=needed,
        p_value=None,
        wins=int((better > 0).sum()),
        ties=int((better == 0).sum()),
        losses=int((better < 0).sum()),
        method="paired BCa bootstrap, 10,000 resamples",
    )


def summary_of(
    folder: RunFolder,
    sample: Sample,
    scores: dict[str, dict[str, np.ndarray]],
    dialogues: list[DialogueRow],
    poison: Poison,
) -> Summary:
    metrics: dict[str, MetricSummary] = {}
    comparisons: list[ComparisonRow] = []
    reference = sample.variants[0]
    for name, (unit, direction, label, _, _, _, signature) in METRICS.items():
        metrics[name] = MetricSummary(
            unit=unit,
            higher_is_better=direction,
            signature=signature,
            label=poison(label),
            heuristic=name.startswith("safety."),
            variants={v: _estimate(scores[v][name]) for v in sample.variants},
        )
        for variant in sample.variants[1:]:
            comparisons.append(_difference(name, variant, reference, scores[variant][name], scores[reference][name]))
    _add_measured(folder, metrics, comparisons)
    if "fidelity" in sample.passes and "merged" in sample.variants:
        _add_fidelity(metrics, sample)
    coverage = {
        v: Coverage(
            dialogues=sample.dialogues + 10,
            answered=sample.dialogues - (v == "base-nf4"),
            skipped={poison("too long"): 10},
        )
        for v in sample.variants
    }
    return Summary(
        metrics=metrics, comparisons=tuple(comparisons), coverage=coverage, slices=_slices(sample, scores, dialogues)
    )


def _slices(
    sample: Sample, scores: dict[str, dict[str, np.ndarray]], dialogues: list[DialogueRow]
) -> tuple[SliceRow, ...]:
    rows = []
    for metric in ("quality.rouge_l", "quality.nll"):
        for level in list(dict.fromkeys(str(d.columns["source"]) for d in dialogues))[:8]:
            mask = np.array([d.columns["source"] == level for d in dialogues])
            for variant in sample.variants[1:]:
                if mask.sum() < 2:
                    continue
                ours, theirs = scores[variant][metric][mask], scores[sample.variants[0]][metric][mask]
                row = _difference(metric, variant, sample.variants[0], ours, theirs)
                rows.append(SliceRow(column="source", level=level, comparison=row, q_value=0.012))
    return tuple(rows)


def _add_measured(folder: RunFolder, metrics: dict[str, MetricSummary], comparisons: list[ComparisonRow]) -> None:
    """Add what the project itself makes of the latency and memory records."""
    own = {name: spec for name, spec in all_specs().items() if spec.family in ("latency", "memory")}
    found = summarize(folder, registry=own, resamples=300)
    metrics |= found.metrics
    comparisons += found.comparisons


def _add_fidelity(metrics: dict[str, MetricSummary], sample: Sample) -> None:
    facts = {
        "fidelity.kl": ("nats/token", False, "mean KL a token", 0.00024, 0.00022, 0.00027),
        "fidelity.top1_agreement": ("share of tokens", True, "top-1 agreement", 0.9967, 0.9959, 0.9974),
        "fidelity.nll_difference": ("nats/token", None, "nll difference", 0.0006, -0.0004, 0.0016),
        "fidelity.identical_replies": ("share of replies", True, "identical replies", 0.81, 0.73, 0.88),
    }
    for name, (unit, direction, label, value, low, high) in facts.items():
        metrics[name] = MetricSummary(
            unit=unit,
            higher_is_better=direction,
            signature="teacher-forced on the references",
            label=label,
            conditions={"against": {"merged": "adapter"}},
            variants={
                "merged": EstimateRow(value=value, low=low, high=high, n=sample.dialogues, method="BCa bootstrap")
            },
        )
