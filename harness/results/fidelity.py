"""Samples of the fidelity metrics: one variant compared with another on the same references and prompts.

A served variant, or replies from a file, is compared with the variant that it claims to be (``same_as``). A variant
may be compared with several. The first gets the plain name (``fidelity.kl``), the others a suffix:
``fidelity.kl[against=adapter]``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from harness.metrics.registry import MetricSpec
from harness.results.distribution import Distribution
from harness.results.units import Units
from harness.stats.samples import ValueKind, from_statistics, from_values, ratio_of_sums
from harness.stats.types import Samples, TimingSamples
from harness.store.folder import RunFolder
from harness.store.schema import FidelityRecord, GenerationRecord, ScoringRecord

Pair = tuple[str, str]
Rows = list[FidelityRecord | None]

# A difference of log p above which a model is sure of its choice, in nats; docs/serving.md says how it was measured.
SURE_NATS = 0.5
_SURE = "fidelity.sure_disagreement"
_NLL = "fidelity.nll_difference"
_OF_REPLIES = ("fidelity.identical_replies", "fidelity.first_divergence")
_CORPUS: Mapping[str, Callable[[FidelityRecord], tuple[float, float] | None]] = {
    "fidelity.kl": lambda one: (sum(one.kl), len(one.kl)) if one.kl else None,
    "fidelity.top1_agreement": lambda one: _per_token(one.agree, one),
    "fidelity.nll_difference": lambda one: (
        None if one.nll is None or one.nll_against is None else _per_token(one.nll - one.nll_against, one)
    ),
}
_POOLED = {"fidelity.kl_p99": 0.99}


@dataclass(frozen=True)
class Said:
    """A reply, and its tokens: ids where they are known, else its words."""

    text: str
    tokens: tuple[int, ...] | tuple[str, ...]


class Fidelity:
    """The fidelity records of all variants, and the replies of both sides of each pair.

    ``claims`` maps a variant to the one that it claims to be.
    """

    def __init__(
        self, folder: RunFolder, units: Units, variants: tuple[str, ...], claims: Mapping[str, str] | None = None
    ) -> None:
        self._folder = folder
        self._units = units
        self._variants = variants
        self.claims = claims or {}
        self._said: dict[str, dict[str, Said]] = {}
        self._scored: dict[str, dict[str, ScoringRecord]] = {}

    def names(self, registry: Mapping[str, MetricSpec]) -> tuple[str, ...]:
        """Return every fidelity metric that some pair has, with its suffix."""
        found = (name + self._suffix(pair) for pair in self._pairs for name in registry if self._has(name, pair))
        return tuple(dict.fromkeys(found))

    @cached_property
    def records(self) -> Mapping[Pair, Mapping[str, FidelityRecord]]:
        """The finished comparisons of distributions of each (variant, against) by dialogue id."""
        return self._finished(of_replies=False)

    @cached_property
    def parted(self) -> Mapping[Pair, Mapping[str, FidelityRecord]]:
        """The finished comparisons of replies of each (variant, against) by dialogue id."""
        return self._finished(of_replies=True)

    def _finished(self, *, of_replies: bool) -> Mapping[Pair, Mapping[str, FidelityRecord]]:
        found: dict[Pair, dict[str, FidelityRecord]] = {}
        for variant in self._variants:
            for record in self._folder.records(FidelityRecord, "fidelity", variant):
                if record.error is None and record.skipped is None and (record.identical is not None) == of_replies:
                    found.setdefault((variant, record.against), {})[record.id] = record
        return found

    @cached_property
    def _pairs(self) -> tuple[Pair, ...]:
        return tuple(dict.fromkeys([*self.records, *self.claims.items()]))

    def pairs(self, metric: str) -> dict[str, str]:
        """Map each variant that has the metric to the variant it was compared with."""
        base = metric.partition("[")[0]
        return {v: a for v, a in self._pairs if self._suffix((v, a)) == metric[len(base) :] and self._has(base, (v, a))}

    def divergences(self) -> dict[Pair, Distribution]:
        """Return the mean KL per token in nats of each dialogue, for each (variant, against)."""
        means = {pair: [np.mean(one.kl) for one in found.values() if one.kl] for pair, found in self.records.items()}
        return {pair: Distribution(np.sort(np.array(values))) for pair, values in means.items() if values}

    def samples(self, spec: MetricSpec, metric: str, variant: str) -> Samples | TimingSamples:
        """Return the samples of a variant that is in ``pairs(metric)``."""
        base = metric.partition("[")[0]
        against = self.pairs(metric)[variant]
        clusters = self._units.conversations
        if base in _OF_REPLIES:
            return self._of_replies(base, variant, against)
        if base == _SURE:
            parted = self.parted[variant, against]
            surely = [_surely(parted.get(name)) for name in self._units.ids]
            return from_values(self._units.ids, surely, kind="rate", clusters=clusters)
        if base == _NLL and (variant, against) not in self.records:
            sums = self.nll_differences(variant, against)
            return from_statistics(self._units.ids, sums, spec.combine or ratio_of_sums, columns=2, clusters=clusters)
        found = self.records[variant, against]
        rows: Rows = [found.get(name) for name in self._units.ids]
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
        mine, theirs = self.replies(variant), self.replies(against)
        both = [(mine.get(name), theirs.get(name)) for name in self._units.ids]
        same = base == "fidelity.identical_replies"
        values = [
            None if a is None or b is None else float(a.text == b.text) if same else _first_divergence(a, b)
            for a, b in both
        ]
        kind: ValueKind = "rate" if same else "mean"
        return from_values(self._units.ids, values, kind=kind, clusters=self._units.conversations)

    def replies(self, variant: str) -> Mapping[str, Said]:
        """Return a variant's replies by dialogue: as generated, or from a file."""
        if variant not in self._said:
            records = self._folder.records(GenerationRecord, "generation", variant)
            said = {one.id: Said(one.reply, one.tokens) for one in records if one.reply is not None and not one.error}
            if not records and self._folder.replies_path(variant).is_file():
                rows = ((row.id, row.raw or row.reply) for row in self._folder.replies(variant) if not row.error)
                said = {name: Said(text, tuple(text.split())) for name, text in rows if text is not None}
            self._said[variant] = said
        return self._said[variant]

    def counts_words(self, variants: Iterable[str]) -> bool:
        """Return whether the tokens of some variant's replies are not known, so that words stand for them."""
        return any(
            isinstance(token, str) for name in variants for one in self.replies(name).values() for token in one.tokens
        )

    def surely(self, variant: str, against: str, dialogue: str) -> bool | None:
        """Return whether two replies part at a token that ``against`` is sure of; None if that is not known."""
        found = _surely(self.parted.get((variant, against), {}).get(dialogue))
        return None if found is None else bool(found)

    def nll_differences(self, variant: str, against: str) -> list[tuple[float, float] | None]:
        """Return nll less that of ``against``, and the reference's tokens, of each dialogue that both scored."""
        mine, theirs = self._likelihoods(variant), self._likelihoods(against)
        both = [(mine.get(name), theirs.get(name)) for name in self._units.ids]
        return [
            None if a is None or b is None or a.nll is None or b.nll is None or not a.reference_tokens
            else (a.nll - b.nll, float(a.reference_tokens))
            for a, b in both
        ]  # fmt: skip

    def _likelihoods(self, variant: str) -> Mapping[str, ScoringRecord]:
        if variant not in self._scored:
            records = self._folder.records(ScoringRecord, "scoring", variant)
            self._scored[variant] = {one.id: one for one in records if one.nll is not None}
        return self._scored[variant]

    def _has(self, base: str, pair: Pair) -> bool:
        """Return whether a fidelity metric can be computed for a pair."""
        if base in _OF_REPLIES:
            return bool(self.replies(pair[0])) and bool(self.replies(pair[1]))
        if base == _SURE:
            return any(_surely(one) is not None for one in self.parted.get(pair, {}).values())
        if base == _NLL and pair not in self.records:
            return bool(self._likelihoods(pair[0])) and bool(self._likelihoods(pair[1]))
        return pair in self.records and base.startswith("fidelity.")

    def _suffix(self, pair: Pair) -> str:
        first = next(against for variant, against in self._pairs if variant == pair[0])
        return "" if pair[1] == first else f"[against={pair[1]}]"


def _per_token(value: float | None, record: FidelityRecord) -> tuple[float, float] | None:
    tokens = record.reference_tokens or len(record.kl)
    return None if value is None or not tokens else (float(value), float(tokens))


def _surely(record: FidelityRecord | None) -> float | None:
    """Return whether the replies part at a token that the other variant is sure of; None if that is not known."""
    if record is None or record.identical:
        return None if record is None else 0.0
    return None if record.behind is None else float(record.behind > SURE_NATS)


def _first_divergence(one: Said, two: Said) -> float | None:
    """Return the number of tokens before the first difference; None if the replies are identical."""
    if one.text == two.text or one.tokens == two.tokens:
        return None
    pairs = enumerate(zip(one.tokens, two.tokens, strict=False))
    first = next((index for index, (mine, theirs) in pairs if mine != theirs), None)
    return float(min(len(one.tokens), len(two.tokens)) if first is None else first)
