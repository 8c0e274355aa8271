"""Samples of the fidelity metrics: one variant compared with another on the same references and prompts.

A variant may be compared with several. The first gets the plain name (``fidelity.kl``), the others a suffix:
``fidelity.kl[against=adapter]``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property

import numpy as np

from harness.metrics.registry import MetricSpec
from harness.results.distribution import Distribution
from harness.results.units import Units
from harness.stats.samples import ValueKind, from_statistics, from_values, ratio_of_sums
from harness.stats.types import Samples, TimingSamples
from harness.store.folder import RunFolder
from harness.store.schema import FidelityRecord, GenerationRecord

Pair = tuple[str, str]
Rows = list[FidelityRecord | None]

_OF_REPLIES = ("fidelity.identical_replies", "fidelity.first_divergence")
_CORPUS: Mapping[str, Callable[[FidelityRecord], tuple[float, float] | None]] = {
    "fidelity.kl": lambda one: (sum(one.kl), len(one.kl)) if one.kl else None,
    "fidelity.top1_agreement": lambda one: _per_token(one.agree, one),
    "fidelity.nll_difference": lambda one: (
        None if one.nll is None or one.nll_against is None else _per_token(one.nll - one.nll_against, one)
    ),
}
_POOLED = {"fidelity.kl_p99": 0.99}


class Fidelity:
    """The fidelity records of all variants, and the replies of both sides of each pair."""

    def __init__(self, folder: RunFolder, units: Units, variants: tuple[str, ...]) -> None:
        self._folder = folder
        self._units = units
        self._variants = variants
        self._generated: dict[str, dict[str, GenerationRecord]] = {}

    def names(self, registry: Mapping[str, MetricSpec]) -> tuple[str, ...]:
        """Return every fidelity metric that some pair has, with its suffix."""
        names = dict.fromkeys(
            name + self._suffix(pair)
            for pair in self.records
            for name in registry
            if name in _CORPUS
            or name in _POOLED
            or name == "fidelity.max_abs_dlogp"
            or (name in _OF_REPLIES and self._both(*pair))
        )
        return tuple(names)

    @cached_property
    def records(self) -> Mapping[Pair, Mapping[str, FidelityRecord]]:
        """The finished records of each (variant, against) by dialogue id."""
        found: dict[Pair, dict[str, FidelityRecord]] = {}
        for variant in self._variants:
            for record in self._folder.records(FidelityRecord, "fidelity", variant):
                if record.error is None and record.skipped is None:
                    found.setdefault((variant, record.against), {})[record.id] = record
        return found

    def pairs(self, metric: str) -> dict[str, str]:
        """Map each variant that has the metric to the variant it was compared with."""
        base = metric.partition("[")[0]
        found = {v: a for v, a in self.records if self._suffix((v, a)) == metric[len(base) :]}
        return {v: a for v, a in found.items() if self._both(v, a)} if base in _OF_REPLIES else found

    def divergences(self) -> dict[Pair, Distribution]:
        """Return the mean KL per token in nats of each dialogue, for each (variant, against)."""
        means = {pair: [np.mean(one.kl) for one in found.values() if one.kl] for pair, found in self.records.items()}
        return {pair: Distribution(np.sort(np.array(values))) for pair, values in means.items() if values}

    def samples(self, spec: MetricSpec, metric: str, variant: str) -> Samples | TimingSamples:
        """Return the samples of a variant that is in ``pairs(metric)``."""
        base = metric.partition("[")[0]
        against = self.pairs(metric)[variant]
        if base in _OF_REPLIES:
            return self._of_replies(base, variant, against)
        found = self.records[variant, against]
        rows: Rows = [found.get(name) for name in self._units.ids]
        clusters = self._units.conversations
        if base in _POOLED:
            values = tuple(np.array(() if row is None else row.kl, dtype=np.float64) for row in rows)
            return TimingSamples(self._units.ids, values, _POOLED[base], clusters)
        if base in _CORPUS:
            statistics = [None if row is None else _CORPUS[base](row) for row in rows]
            aggregate = spec.combine or ratio_of_sums
            return from_statistics(self._units.ids, statistics, aggregate, columns=2, clusters=clusters)
        largest = [None if row is None else row.max_abs_dlogp for row in rows]
        return from_values(self._units.ids, largest, clusters=clusters)

    def _of_replies(self, base: str, variant: str, against: str) -> Samples:
        mine, theirs = self._replies(variant), self._replies(against)
        both = [(mine.get(name), theirs.get(name)) for name in self._units.ids]
        same = base == "fidelity.identical_replies"
        values = [
            None if a is None or b is None else float(a.reply == b.reply) if same else _first_divergence(a, b)
            for a, b in both
        ]
        kind: ValueKind = "rate" if same else "mean"
        return from_values(self._units.ids, values, kind=kind, clusters=self._units.conversations)

    def _replies(self, variant: str) -> Mapping[str, GenerationRecord]:
        if variant not in self._generated:
            records = self._folder.records(GenerationRecord, "generation", variant)
            self._generated[variant] = {one.id: one for one in records if one.reply is not None and one.error is None}
        return self._generated[variant]

    def _both(self, variant: str, against: str) -> bool:
        return bool(self._replies(variant)) and bool(self._replies(against))

    def _suffix(self, pair: Pair) -> str:
        first = next(against for variant, against in self.records if variant == pair[0])
        return "" if pair[1] == first else f"[against={pair[1]}]"


def _per_token(value: float | None, record: FidelityRecord) -> tuple[float, float] | None:
    tokens = record.reference_tokens or len(record.kl)
    return None if value is None or not tokens else (float(value), float(tokens))


def _first_divergence(one: GenerationRecord, two: GenerationRecord) -> float | None:
    """Return the number of tokens before the first difference; None if the replies are identical."""
    if one.tokens == two.tokens:
        return None
    pairs = enumerate(zip(one.tokens, two.tokens, strict=False))
    first = next((index for index, (mine, theirs) in pairs if mine != theirs), None)
    return float(min(len(one.tokens), len(two.tokens)) if first is None else first)
