"""The made-up run's summary: estimates and differences with normal approximations, of every outcome."""

from __future__ import annotations

import numpy as np

from harness.store.schema import ComparisonRow, Coverage, DialogueRow, EstimateRow, MetricSummary, SliceRow, Summary
from tests.reports.sample_facts import METRICS, TPOT_MS, Poison, Sample
from tests.reports.sample_records import MEMORY


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
    sample: Sample, scores: dict[str, dict[str, np.ndarray]], dialogues: list[DialogueRow], poison: Poison
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
    if "latency" in sample.passes:
        _add_latency(sample, metrics, comparisons)
    if "memory" in sample.passes:
        _add_memory(sample, metrics)
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


def _add_latency(sample: Sample, metrics: dict[str, MetricSummary], comparisons: list[ComparisonRow]) -> None:
    base = sample.variants[0]
    families = {
        "latency.ttft_ms.p50": ("ms", False, "TTFT, median", 2.6),
        "latency.tpot_ms.p50": ("ms", False, "TPOT, median", 1.03),
        "latency.itl_ms.p99": ("ms", False, "ITL, 99th percentile", 1.16),
        "latency.e2e_ms.p95": ("ms", False, "E2E, 95th percentile", 52.0),
        "latency.tokens_per_s": ("tokens/s", True, "tokens per second", -970.0),
        "latency.mbu": ("share of tokens", True, "share of memory bandwidth used", -4.1),
    }
    for name, (unit, direction, label, factor) in families.items():
        values = {v: factor * TPOT_MS[v] if factor > 0 else -factor / TPOT_MS[v] for v in sample.variants}
        rows = {}
        for v, value in values.items():
            bounds = (None, None) if name.endswith(("p99", "p95")) else (value * 0.985, value * 1.018)
            rows[v] = EstimateRow(
                value=value,
                low=bounds[0],
                high=bounds[1],
                n=48,
                method="quantile over requests",
                warnings=("p95 needs at least 72 requests",) if bounds[0] is None else (),
            )
        metrics[name] = MetricSummary(
            unit=unit,
            higher_is_better=direction,
            signature="batch 1, eager, 48 tokens",
            label=label,
            conditions={"batch": 1, "engine": "eager"},
            variants=rows,
        )
        if name == "latency.tpot_ms.p50":
            metrics[f"{name}[batch=16]"] = MetricSummary(
                unit=unit,
                higher_is_better=False,
                signature="batch 16, eager",
                label=label,
                conditions={"batch": 16},
                variants={v: EstimateRow(value=value * 1.3, n=16) for v, value in values.items()},
            )
        for v in sample.variants[1:]:
            ratio = values[v] / values[base]
            same = abs(ratio - 1) < 0.02
            good = (ratio > 1) == direction
            comparisons.append(
                ComparisonRow(
                    metric=name,
                    variant=v,
                    against=base,
                    value=ratio,
                    low=ratio * 0.98,
                    high=ratio * 1.02,
                    n=16,
                    outcome="undecided" if same else "better" if good else "worse",
                    relative=True,
                    mde=0.03,
                    needed_n=60 if same else None,
                    method="median of log ratios over prompts",
                )
            )


def _add_memory(sample: Sample, metrics: dict[str, MetricSummary]) -> None:
    for name, label, parts in (("weights_mib", "weights", 1), ("peak_allocated_mib", "peak allocated", 3)):
        metrics[f"memory.{name}"] = MetricSummary(
            unit="MiB",
            higher_is_better=False,
            signature="fresh process, batch 1, 128 + 32 tokens",
            label=label,
            variants={
                v: EstimateRow(value=sum(MEMORY[v][:parts]) * 1024, n=2, method="value") for v in sample.variants
            },
        )


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
