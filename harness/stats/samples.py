"""Build samples from per-unit values or sufficient statistics, and align the samples of two variants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.stats.types import Aggregate, BoolArray, FloatArray, Kind, Samples, TimingSamples

ValueKind = Literal["mean", "rate"]


def ratio_of_sums(sums: FloatArray) -> FloatArray:
    """Return column 0 over column 1 of sums of shape (..., 2): a mean if column 1 counts; NaN where it is zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        result: FloatArray = sums[..., 0] / sums[..., 1]
    return result


def from_values(
    ids: Sequence[str],
    values: Sequence[float | None],
    *,
    kind: ValueKind = "mean",
    clusters: Sequence[str] | None = None,
) -> Samples:
    """Return the samples of a mean or a rate; a unit whose value is None is undefined and not counted in n."""
    rows = [None if value is None else (value, 1.0) for value in values]
    samples = from_statistics(ids, rows, ratio_of_sums, columns=2, clusters=clusters)
    return replace(samples, kind=kind)


def from_statistics(
    ids: Sequence[str],
    rows: Sequence[Sequence[float] | None],
    aggregate: Aggregate,
    *,
    columns: int,
    clusters: Sequence[str] | None = None,
) -> Samples:
    """Return the samples of a corpus metric from one row of ``columns`` sufficient statistics per unit, or None.

    Raises ValueError if a row has a different length.
    """
    defined = np.array([row is not None for row in rows], dtype=bool)
    empty = (0.0,) * columns
    statistics = np.array([empty if row is None else tuple(row) for row in rows], dtype=np.float64)
    return from_columns(ids, statistics.reshape(len(rows), columns), defined, aggregate, clusters=clusters)


def from_columns(
    ids: Sequence[str],
    statistics: FloatArray,
    defined: BoolArray,
    aggregate: Aggregate,
    *,
    kind: Kind = "corpus",
    clusters: Sequence[str] | None = None,
    unit_values: FloatArray | None = None,
) -> Samples:
    """Return samples from sufficient statistics of shape (units, k), zero for units that are not ``defined``."""
    return Samples(
        ids=tuple(ids),
        statistics=statistics,
        aggregate=aggregate,
        kind=kind,
        clusters=None if clusters is None else tuple(clusters),
        defined=None if bool(defined.all()) else defined,
        unit_values=unit_values,
    )


def defined_units(samples: Samples) -> BoolArray:
    """Return whether each unit has a value."""
    return np.ones(len(samples.ids), dtype=bool) if samples.defined is None else samples.defined


def unit_values(samples: Samples) -> FloatArray:
    """Return one value per unit, NaN where it has none."""
    if samples.unit_values is not None:
        return samples.unit_values
    with np.errstate(all="ignore"):
        values = np.asarray(samples.aggregate(samples.statistics), dtype=np.float64)
    return np.where(defined_units(samples), values, np.nan)


def select(samples: Samples, keep: BoolArray) -> Samples:
    """Return the units where ``keep``, in their order."""
    return _take(samples, np.flatnonzero(keep))


def align(candidate: Samples, reference: Samples) -> tuple[Samples, Samples]:
    """Return both over their common units, in one order, defined where both are.

    Samples that are already aligned are returned unchanged (the same objects), so that cached sums stay valid. If two
    runs group the units differently, both get the candidate's grouping if it has one, else the reference's: rows must
    stay paired.
    """
    if candidate.ids != reference.ids:
        common = sorted(set(candidate.ids) & set(reference.ids))
        candidate, reference = _reorder(candidate, common), _reorder(reference, common)
    if candidate.clusters != reference.clusters:
        clusters = candidate.clusters if is_clustered(candidate) else reference.clusters
        candidate, reference = replace(candidate, clusters=clusters), replace(reference, clusters=clusters)
    both = defined_units(candidate) & defined_units(reference)
    return _restrict(candidate, both), _restrict(reference, both)


def by_cluster(samples: Samples) -> FloatArray:
    """Return the statistics summed per conversation, or unchanged if no conversation has several units."""
    if not is_clustered(samples):
        return samples.statistics
    index, groups = _grouping(samples.clusters or ())
    sums = np.zeros((groups, samples.statistics.shape[1]))
    np.add.at(sums, index, samples.statistics)
    return sums


def counted(samples: Samples | TimingSamples, unit: str) -> str:
    """Return a word for what ``count`` counts: the units, or the groups that several of them share."""
    return {"dialogues": "conversations", "requests": "batches"}.get(unit, unit) if is_clustered(samples) else unit


def is_clustered(samples: Samples | TimingSamples) -> bool:
    """Return whether some conversation has several units."""
    return samples.clusters is not None and _grouping(samples.clusters)[1] < len(samples.clusters)


def count(samples: Samples) -> int:
    """Return the number of independent units that have a value (conversations, if units share them)."""
    defined = defined_units(samples)
    if samples.clusters is None or not is_clustered(samples):
        return int(defined.sum())
    return int(np.unique(_grouping(samples.clusters)[0][defined]).size)


@lru_cache(maxsize=8)
def _grouping(clusters: tuple[str, ...]) -> tuple[NDArray[np.intp], int]:
    """Return the number of each unit's conversation, in the order of their names, and how many there are."""
    names, index = np.unique(np.asarray(clusters, dtype=np.str_), return_inverse=True)
    return index, int(names.size)


def _restrict(samples: Samples, both: BoolArray) -> Samples:
    mine = defined_units(samples)
    if np.array_equal(mine, both):
        return samples
    return replace(samples, statistics=np.where(both[:, None], samples.statistics, 0.0), defined=both)


def _reorder(samples: Samples, ids: Sequence[str]) -> Samples:
    position = {name: index for index, name in enumerate(samples.ids)}
    return _take(samples, np.array([position[name] for name in ids], dtype=np.intp))


def _take(samples: Samples, places: NDArray[np.intp]) -> Samples:
    return replace(
        samples,
        ids=tuple(samples.ids[place] for place in places),
        statistics=samples.statistics[places],
        clusters=None if samples.clusters is None else tuple(samples.clusters[place] for place in places),
        defined=None if samples.defined is None else samples.defined[places],
        unit_values=None if samples.unit_values is None else samples.unit_values[places],
    )
