"""A reply scored against several references of one dialogue: by the best of them, or by their mean.

Both are used in the literature: ``rouge_score`` and chrF take the best, and averages let all annotators count alike.
Best is the default, because a reply is right if it agrees with one right reply. Neither is sacrebleu's BLEU of several
references, which counts an n-gram that any of them has.

Likelihoods (nll, perplexity) are those of the first reference alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from harness.metrics.registry import MetricSpec, Scores
from harness.store.schema import DialogueRow, RunManifest

How = Literal["best", "mean"]


def how_of(manifest: RunManifest) -> How:
    """Return how the run's config combines several references."""
    dialogues = manifest.config.get("dialogues")
    return "mean" if isinstance(dialogues, dict) and dialogues.get("references") == "mean" else "best"


def sign(specs: Mapping[str, MetricSpec], dialogues: Iterable[DialogueRow], how: How) -> dict[str, MetricSpec]:
    """Return the specs; if dialogues have several references, their signatures say how these are combined."""
    if not any(dialogue.further_references for dialogue in dialogues):
        return dict(specs)
    return {
        name: replace(spec, signature=f"{spec.signature} · references:{how}") if _is_of_replies(spec) else spec
        for name, spec in specs.items()
    }


def combine(found: Sequence[Scores], specs: Mapping[str, MetricSpec], how: How) -> Scores:
    """Return the scores of one reply from those against each of its references, the first one first.

    A rate counts the best reference in either case: a rule fires if it fires against every reference. Of a metric
    without a better direction, the first reference counts. Means of corpus metrics are those of their statistics, as
    if each reference were a dialogue that counts for its share.
    """
    if len(found) == 1:
        return found[0]
    values: dict[str, float | None] = {}
    statistics: dict[str, tuple[float, ...]] = {}
    chosen: dict[str, int] = {}
    for name in dict.fromkeys(name for scores in found for name in (*scores.values, *scores.statistics)):
        spec = specs[name]
        if how == "mean" and spec.aggregation != "rate" and _has_a_best(spec):
            counted = found
        else:
            chosen[name] = _best([scores.values.get(name) for scores in found], spec) if _has_a_best(spec) else 0
            counted = [found[chosen[name]]]
        if any(name in scores.values for scores in counted):
            values[name] = _mean([scores.values.get(name) for scores in counted])
        columns = zip(*(scores.statistics[name] for scores in counted if name in scores.statistics), strict=True)
        if summed := tuple(_mean(column) or 0.0 for column in columns):
            statistics[name] = summed
    findings = tuple(
        finding
        for place, scores in enumerate(found)
        for finding in scores.findings
        if chosen.get(finding.metric, 0) == place
    )
    return Scores(values, statistics, findings)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _has_a_best(spec: MetricSpec) -> bool:
    return spec.higher_is_better is not None and _is_of_replies(spec)


def _is_of_replies(spec: MetricSpec) -> bool:
    """Return whether a metric compares replies with references; likelihoods are those of the first reference."""
    return spec.family not in ("fidelity", "latency", "memory") and "nll" not in spec.statistics


def _best(values: Sequence[float | None], spec: MetricSpec) -> int:
    """Return the place of the best value, the first of equal ones; 0 if all are undefined."""
    sign_of_better = 1 if spec.higher_is_better else -1
    known = [(sign_of_better * value, -place) for place, value in enumerate(values) if value is not None]
    return -max(known, default=(0.0, 0))[1]
