"""Samples of the metrics that judge replies and likelihoods, from ``replies/VARIANT.jsonl``."""

from __future__ import annotations

from collections import Counter

import numpy as np

from harness.errors import InputError
from harness.metrics.registry import MetricSpec
from harness.results.columns import NLL_SUMS, Column, Columns, State
from harness.results.units import Units
from harness.stats.samples import ValueKind, from_columns, ratio_of_sums
from harness.stats.types import BoolArray, Samples
from harness.store.folder import RunFolder


class Replies:
    """The numbers of each variant's scored replies. Files are read on first use."""

    def __init__(self, folder: RunFolder, units: Units, variants: tuple[str, ...]) -> None:
        self._folder = folder
        self._units = units
        self._variants = variants
        self._columns: dict[str, Columns] = {}

    def columns(self, variant: str) -> Columns:
        """Return the numbers of a variant's replies, a row per unit."""
        if variant not in self._columns:
            self._columns[variant] = Columns(self._folder.each_reply(variant), self._units.places)
        return self._columns[variant]

    def having(self, variant: str, state: State) -> BoolArray:
        """Return for each unit whether the variant's row has this."""
        return (self.columns(variant).state & state).astype(bool)

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
        columns = self.columns(variant)
        ids, clusters = self._units.ids, self._units.conversations
        values, valued = columns.values(spec.name)
        if spec.aggregation in ("mean", "rate"):
            pairs = np.stack([np.where(valued, values, 0.0), valued.astype(np.float64)], axis=1)
            kind: ValueKind = "rate" if spec.aggregation == "rate" else "mean"
            return from_columns(ids, pairs, valued, ratio_of_sums, kind=kind, clusters=clusters)
        found = _statistics(columns, spec)
        width = len(spec.statistics) or (found.width if found else 2)
        if spec.name in columns.uneven or (found is not None and found.width != width):
            path = self._folder.replies_path(variant)
            raise InputError(f"{path}: {spec.name} must have {width} statistics in every line. Score the run again.")
        return from_columns(
            ids,
            found.numbers if found else np.zeros((len(ids), width)),
            found.defined if found else np.zeros(len(ids), dtype=bool),
            spec.combine or ratio_of_sums,
            clusters=clusters,
            unit_values=np.where(valued, values, np.nan),
        )

    def undefined(self, metric: str, variant: str) -> Counter[str]:
        """Return why the metric cannot read replies of the variant, with their counts."""
        return self.columns(variant).undefined.get(metric, Counter())

    def names_of(self, variant: str) -> set[str]:
        """Return every metric that a reply of the variant has."""
        return self.columns(variant).names


def _statistics(columns: Columns, spec: MetricSpec) -> Column | None:
    """Return a metric's sufficient statistics; of likelihoods, those that rows without them imply."""
    own = columns.statistics.get(spec.name)
    implied = columns.statistics.get(NLL_SUMS) if spec.statistics == ("nll", "tokens") else None
    if own is None or implied is None or spec.name in columns.uneven or own.width != implied.width:
        return own if own is not None else implied
    both = Column(len(own.defined), own.width)
    for column in (implied, own):
        places = np.flatnonzero(column.defined)
        both.put(places, column.numbers[places])
    return both
