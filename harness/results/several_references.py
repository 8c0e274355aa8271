"""A reply scored against several references of one dialogue: by the best of them, or by their mean.

Both are used in the literature: ``rouge_score`` and chrF take the best, and averages let all annotators count alike.
Best is the default, because a reply is right if it agrees with one right reply. Neither is sacrebleu's BLEU of several
references, which counts an n-gram that any of them has.

Likelihoods (nll, perplexity) are those of the first reference alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from harness.metrics.registry import MetricSpec, Scores
from harness.store.schema import DialogueRow, RunManifest

How = Literal["best", "mean"]


def how_of(manifest: RunManifest) -> How:
    """Return how the run's config combines several references."""
    dialogues = manifest.config.get("dialogues")
    return "mean" if isinstance(dialogues, dict) and dialogues.get("references") == "mean" else "best"


def sign(specs: Mapping[str, MetricSpec], dialogues: Sequence[DialogueRow], how: How) -> dict[str, MetricSpec]:
    """Return the specs; if dialogues have several references, their signatures say how these are combined."""
    if not any(dialogue.further_references for dialogue in dialogues):
        return dict(specs)
    return {name: replace(spec, signature=f"{spec.signature} · references:{how}") for name, spec in specs.items()}


def combine(found: Sequence[Scores], specs: Mapping[str, MetricSpec], how: How) -> Scores:
    """Return the scores of one reply from those against each of its references, the first one first.

    A rate counts the best reference in either case: a rule fires if it fires against every reference. Of a metric
    without a better direction, the first reference counts. Means of corpus metrics are those of their statistics, as
    if each reference were a dialogue that counts for its share.
    """
    if len(found) == 1:
        return found[0]
    names = dict.fromkeys(name for scores in found for name in (*scores.values, *scores.statistics))
    values: dict[str, float | None] = {}
    statistics: dict[str, tuple[float, ...]] = {}
    chosen: dict[str, int] = {}
    for name in names:
        spec = specs.get(name)
        known = [scores.values[name] for scores in found if scores.values.get(name) is not None]
        if how == "mean" and spec is not None and spec.aggregation != "rate" and spec.higher_is_better is not None:
            chosen[name] = 0
            if name in found[0].values:
                values[name] = sum(value for value in known if value is not None) / len(known) if known else None
            several = [scores.statistics[name] for scores in found if name in scores.statistics]
            if several:
                statistics[name] = tuple(sum(column) / len(several) for column in zip(*several, strict=True))
            continue
        chosen[name] = place = _best([scores.values.get(name) for scores in found], spec)
        if name in found[place].values:
            values[name] = found[place].values[name]
        if name in found[place].statistics:
            statistics[name] = found[place].statistics[name]
    findings = tuple(
        finding
        for place, scores in enumerate(found)
        for finding in scores.findings
        if chosen.get(finding.metric, 0) == place
    )
    return Scores(values, statistics, findings)


def _best(values: Sequence[float | None], spec: MetricSpec | None) -> int:
    """Return the place of the best value, the first of equal ones; 0 if no direction is better."""
    known = [(value, -place) for place, value in enumerate(values) if value is not None]
    if spec is None or spec.higher_is_better is None or not known:
        return 0
    return -max(known if spec.higher_is_better else [(-value, place) for value, place in known])[1]
