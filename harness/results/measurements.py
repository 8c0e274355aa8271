"""The samples in a run folder for each metric and variant, of any family. Files are read lazily."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from harness.errors import InputError, did_you_mean
from harness.metrics.measured import MEASURED
from harness.metrics.registry import MetricSpec
from harness.results.fidelity import Fidelity
from harness.results.identity import claims, identities
from harness.results.latency import Latency
from harness.results.memory import Memory
from harness.results.replies import Replies
from harness.results.units import Slice, Units
from harness.stats.samples import select
from harness.stats.types import Samples, TimingSamples
from harness.store.folder import RunFolder
from harness.store.schema import IdentityRow, RunManifest

_KEEP_BYTES = 256 * 2**20
Key = tuple[str, str, Slice | None]  # metric, variant, slice


def base_of(metric: str) -> str:
    """Return a metric's name without the conditions in brackets."""
    return metric.partition("[")[0]


class Measurements:
    """The samples of one run folder, by metric and variant. Without ``manifest``, it is read on first use."""

    def __init__(
        self, folder: RunFolder, registry: Mapping[str, MetricSpec], manifest: RunManifest | None = None
    ) -> None:
        self.folder = folder
        self._registry = registry
        self._manifest = manifest
        self._samples: dict[Key, Samples | TimingSamples] = {}
        self._within: dict[Slice, frozenset[str]] = {}

    @cached_property
    def manifest(self) -> RunManifest:
        return self._manifest or self.folder.read_manifest()

    @cached_property
    def variants(self) -> tuple[str, ...]:
        """Names of the variants in the run's order."""
        return tuple(str(variant["name"]) for variant in self.manifest.variants if "name" in variant)

    @cached_property
    def units(self) -> Units:
        """The dialogues of the run."""
        return Units(self.folder.each_dialogue if self.folder.dialogues_path.is_file() else tuple)

    @cached_property
    def replies(self) -> Replies:
        return Replies(self.folder, self.units, self.variants)

    @cached_property
    def fidelity(self) -> Fidelity:
        return Fidelity(self.folder, self.units, self.variants, claims(self.manifest))

    @cached_property
    def identities(self) -> tuple[IdentityRow, ...]:
        """What the replies say about the variants that claim to be another one; none of those are served themselves."""
        local = [str(one.get("name")) for one in self.manifest.variants if one.get("kind") != "endpoint"]
        others = {name: tuple(one for one in local if one != name) for name in self.fidelity.claims}
        return identities(self.fidelity, others)

    @cached_property
    def latency(self) -> Latency:
        return Latency(self.folder, self.manifest)

    @cached_property
    def memory(self) -> Memory:
        return Memory(self.folder, self.variants)

    @cached_property
    def metric_names(self) -> tuple[str, ...]:
        """The metrics that at least one variant has, in the registry's order, with conditions in brackets."""
        replied = self.replies.names()
        return (
            *(name for name in self._registry if name in replied),
            *self.fidelity.names(self._registry),
            *self.latency.names(self._registry),
            *self.memory.names(self._registry),
        )

    def spec(self, metric: str) -> MetricSpec:
        """Return a metric's spec; names with conditions in brackets have that of their base name."""
        base = base_of(metric)
        if base not in self._registry:
            raise InputError(f"There is no metric '{metric}'.{did_you_mean(metric, self._registry)}")
        return replace(self._registry[base], name=metric)

    def conditions(self, metric: str) -> dict[str, Any]:
        """Return the conditions under which the metric was measured."""
        family = self.spec(metric).family
        if family == "latency":
            condition = self.latency.condition(metric)
            return {} if condition is None else condition.as_dict()
        if family == "fidelity":
            pairs = self.fidelity.pairs(metric)
            words = base_of(metric) == "fidelity.first_divergence" and self.fidelity.counts_words(pairs)
            return {"against": pairs, "counted_in": "words"} if words else {"against": pairs}
        if family == "memory":
            devices = self.memory.devices(metric)
            return {"device": devices[0] if len(devices) == 1 else devices}
        return {}

    def variants_of(self, metric: str) -> tuple[str, ...]:
        """Return the variants that have the metric, in the run's order."""
        family = self.spec(metric).family
        if family == "latency":
            return self.latency.variants(metric)
        if family == "memory":
            return self.memory.variants(metric)
        if family == "fidelity":
            pairs = self.fidelity.pairs(metric)
            return tuple(variant for variant in self.variants if variant in pairs)
        return self.replies.variants(metric)

    def has(self, metric: str, variant: str) -> bool:
        """Return whether the variant has the metric; raise InputError if the run has no such variant."""
        if variant not in self.variants:
            hint = did_you_mean(variant, self.variants) or f" It has {', '.join(self.variants)}."
            raise InputError(f"{self.folder.root} has no variant '{variant}'.{hint}")
        if self.spec(metric).family in MEASURED:
            return variant in self.variants_of(metric)
        return metric in self.replies.names_of(variant)

    def samples(self, key: Key) -> Samples | TimingSamples:
        """Return the samples of a metric that the variant has, restricted to the key's slice if any."""
        metric, variant, slice = key
        if key not in self._samples:
            if slice is None:
                self._samples[key] = self._collect(metric, variant)
            else:
                self._samples[key] = self._sliced(self.samples((metric, variant, None)), slice)
            while len(self._samples) > 1 and sum(map(_size, self._samples.values())) > _KEEP_BYTES:
                del self._samples[next(iter(self._samples))]
        return self._samples[key]

    def within(self, slice: Slice) -> frozenset[str]:
        """Return the ids of a slice's dialogues; raise InputError if no dialogue has the column."""
        if slice[0] not in self.units.columns:
            hint = did_you_mean(slice[0], self.units.columns)
            raise InputError(f"The dialogues of {self.folder.root} have no column '{slice[0]}'.{hint}")
        if slice not in self._within:
            self._within[slice] = self.units.within(slice)
        return self._within[slice]

    def forget(self, slice: Slice) -> None:
        """Drop the cached samples of a slice."""
        self._samples = {key: value for key, value in self._samples.items() if key[2] != slice}

    def _collect(self, metric: str, variant: str) -> Samples | TimingSamples:
        spec, base = self.spec(metric), base_of(metric)
        if spec.family == "fidelity":
            return self.fidelity.samples(spec, metric, variant)
        if base == "latency.tokens_per_s":
            return self.latency.throughput(metric, variant)
        if base == "latency.goodput":
            return self.latency.goodput(metric, variant)
        if base == "latency.errors":
            return self.latency.errors(metric, variant)
        if spec.family == "latency":
            return self.latency.timings(metric, variant)
        return self.replies.samples(spec, variant)

    def _sliced(self, samples: Samples | TimingSamples, slice: Slice) -> Samples | TimingSamples:
        within = self.within(slice)
        if isinstance(samples, Samples):
            return select(samples, np.array([name in within for name in samples.ids], dtype=bool))
        kept = [index for index, name in enumerate(samples.ids) if name in within]
        return replace(
            samples,
            ids=tuple(samples.ids[index] for index in kept),
            values=tuple(samples.values[index] for index in kept),
            clusters=None if samples.clusters is None else tuple(samples.clusters[index] for index in kept),
        )


def _size(samples: Samples | TimingSamples) -> int:
    """Return the bytes of a metric's statistics; timings are few."""
    return samples.statistics.nbytes if isinstance(samples, Samples) else 0
