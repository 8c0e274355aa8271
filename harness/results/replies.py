"""Samples of the metrics that judge replies and likelihoods, from ``replies/VARIANT.jsonl``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from harness.errors import InputError
from harness.metrics.registry import MetricSpec
from harness.results.units import Units
from harness.stats.samples import ValueKind, from_statistics, from_values, ratio_of_sums
from harness.stats.types import Samples
from harness.store.folder import RunFolder
from harness.store.schema import ReplyRow


class Replies:
    """The scored replies of each variant. Files are read on first use."""

    def __init__(self, folder: RunFolder, units: Units, variants: tuple[str, ...]) -> None:
        self._folder = folder
        self._units = units
        self._variants = variants
        self._rows: dict[str, dict[str, ReplyRow]] = {}
        self._names: dict[str, set[str]] = {}

    def rows(self, variant: str) -> Mapping[str, ReplyRow]:
        """Return a variant's replies by dialogue id."""
        if variant not in self._rows:
            self._rows[variant] = {row.id: row for row in self._folder.replies(variant)}
        return self._rows[variant]

    def names(self) -> set[str]:
        """Return every metric that a reply of any variant has."""
        return {name for variant in self._variants for name in self.names_of(variant)}

    def variants(self, metric: str) -> tuple[str, ...]:
        """Return the variants whose replies have the metric."""
        return tuple(variant for variant in self._variants if metric in self.names_of(variant))

    def samples(self, spec: MetricSpec, variant: str) -> Samples:
        """Return one row per dialogue of the run, undefined where the reply has no value.

        Raises InputError if a row does not have the number of statistics that the metric declares.
        """
        found = self.rows(variant)
        clusters = self._units.conversations
        rows = [found.get(name) for name in self._units.ids]
        shown = [None if row is None else row.scores.get(spec.name) for row in rows]
        if spec.aggregation in ("mean", "rate"):
            kind: ValueKind = "rate" if spec.aggregation == "rate" else "mean"
            return from_values(self._units.ids, shown, kind=kind, clusters=clusters)
        statistics = [None if row is None else _statistics(row, spec) for row in rows]
        columns = len(spec.statistics) or max((len(one) for one in statistics if one is not None), default=2)
        if any(one is not None and len(one) != columns for one in statistics):
            path = self._folder.replies_path(variant)
            raise InputError(f"{path}: {spec.name} must have {columns} statistics in every line. Score the run again.")
        return from_statistics(
            self._units.ids,
            statistics,
            spec.combine or ratio_of_sums,
            columns=columns,
            clusters=clusters,
            unit_values=shown,
        )

    def undefined(self, metric: str, variant: str) -> Counter[str]:
        """Return why the metric cannot read replies of the variant, with their counts."""
        return Counter(row.undefined[metric] for row in self.rows(variant).values() if metric in row.undefined)

    def names_of(self, variant: str) -> set[str]:
        """Return every metric that a reply of the variant has."""
        if variant not in self._names:
            rows = self.rows(variant).values()
            names = (*(row.scores.keys() for row in rows), *(row.statistics.keys() for row in rows))
            self._names[variant] = set().union(*names)
        return self._names[variant]


def _statistics(row: ReplyRow, spec: MetricSpec) -> tuple[float, ...] | None:
    found = row.statistics.get(spec.name)
    if found is None and spec.statistics == ("nll", "tokens") and row.nll is not None and row.reference_tokens:
        return (row.nll, float(row.reference_tokens))
    return found
