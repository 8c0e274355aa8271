"""Samples of the latency metrics, from the recorded timestamps.

A name without a suffix is the fixed reply length at batch 1 on the run's engine: ``compiled`` if every variant was
served on it (or none on ``eager``), else ``eager``. Other names include their conditions:
``latency.tpot_ms.p50[engine=eager,batch=4]``,
``latency.e2e_ms.p95[engine=eager,batch=1,workload=natural]``, ``latency.ttft_ms.p50[engine=eager,batch=1,
prompt_tokens=512]`` (without the line break). Timings of a server never go without:
``latency.ttft_ms.p50[engine=server,concurrency=4]``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from functools import cached_property

import numpy as np

from harness.errors import InputError
from harness.metrics.registry import MetricSpec
from harness.results.distribution import Distribution
from harness.results.roofline import rooflines
from harness.results.timings import (
    Condition,
    condition_of,
    e2e_ms,
    finished,
    gaps_ms,
    of_server,
    served_together,
    tokens_and_seconds,
    tokens_per_s,
    tpot_ms,
    ttft_host_ms,
    ttft_ms,
    within_budget,
)
from harness.stats.samples import from_statistics, from_values, ratio_of_sums
from harness.stats.timing import RepeatedValues
from harness.stats.types import FloatArray, Samples, TimingSamples
from harness.store.folder import RunFolder
from harness.store.schema import LatencyRecord, RunManifest

_QUANTILE = re.compile(r"latency\.(ttft_ms|ttft_host_ms|tpot_ms|itl_ms|e2e_ms)\.p(\d{1,2})")
_PER_REQUEST: Mapping[str, Callable[[LatencyRecord], float | None]] = {
    "ttft_ms": ttft_ms,
    "ttft_host_ms": ttft_host_ms,
    "tpot_ms": tpot_ms,
    "e2e_ms": e2e_ms,
}
# Utilisations of the hardware, and the timing that each is derived from.
UTILISATIONS = {"latency.mbu": "latency.tpot_ms.p50", "latency.prefill_mfu": "latency.ttft_ms.p50"}
Units = Mapping[str, Mapping[int, list[LatencyRecord]]]


class Latency:
    """The timed requests of all variants, by condition."""

    def __init__(self, folder: RunFolder, manifest: RunManifest) -> None:
        timing = manifest.config.get("latency") or {}
        self._folder = folder
        self._variants = tuple(str(variant["name"]) for variant in manifest.variants if "name" in variant)
        self._budgets = (timing.get("ttft_budget_ms"), timing.get("tpot_budget_ms"))
        self._rooflines = rooflines(manifest.provenance)
        self._floors = _floors(manifest)
        self._units: dict[tuple[str, Condition], Units] = {}

    @cached_property
    def records(self) -> Mapping[str, Mapping[Condition, list[LatencyRecord]]]:
        """The requests of each variant under each condition. The fixed workload takes precedence over a sweep."""
        found: dict[str, dict[Condition, list[LatencyRecord]]] = {}
        for variant in self._variants:
            by_condition: dict[Condition, list[LatencyRecord]] = {}
            for record in self._folder.records(LatencyRecord, "latency", variant):
                by_condition.setdefault(condition_of(record), []).append(record)
            for condition, records in by_condition.items():
                fixed = [one for one in records if one.workload != "sweep"]
                by_condition[condition] = fixed or records
            if by_condition:
                found[variant] = by_condition
        return found

    @cached_property
    def main(self) -> Condition:
        """The condition of names without a suffix."""
        compiled, eager = Condition("compiled", 1), Condition("eager", 1)
        by_compiled, by_eager = self._served_under(compiled), self._served_under(eager)
        local = [found for found in self.records.values() if any(one.engine != "server" for one in found)]
        return compiled if by_compiled and (by_compiled == len(local) or not by_eager) else eager

    @cached_property
    def engines(self) -> tuple[str, ...]:
        """The engines that at least one variant was served on."""
        found = (condition.engine for by in self.records.values() for condition, rows in by.items() if finished(rows))
        return tuple(dict.fromkeys(found))

    def names(self, registry: Mapping[str, MetricSpec]) -> tuple[str, ...]:
        """Return every latency metric that was measured, those of the main condition first."""
        conditions = {condition for found in self.records.values() for condition in found}
        ordered = sorted(conditions, key=lambda condition: (condition != self.main, condition))
        bases = [name for name in registry if name.startswith("latency.")]
        names = [(base, condition) for condition in ordered for base in bases if self._has(base, condition)]
        return tuple(base + self.suffix(condition) for base, condition in names)

    def suffix(self, condition: Condition) -> str:
        return "" if condition == self.main else condition.suffix

    def condition(self, metric: str) -> Condition | None:
        """Return the condition in a metric's name, or None if it was not measured."""
        suffix = metric[len(metric.partition("[")[0]) :]
        if not suffix:
            return self.main
        found = {condition.suffix: condition for conditions in self.records.values() for condition in conditions}
        return found.get(suffix)

    def variants(self, metric: str) -> tuple[str, ...]:
        """Return the variants that were timed under the metric's condition."""
        condition = self.condition(metric)
        base = metric.partition("[")[0]
        if condition is None or not self._has(base, condition):
            return ()
        timed = [variant for variant, conditions in self.records.items() if condition in conditions]
        return tuple(v for v in timed if self.floor(metric, v)) if base in UTILISATIONS else tuple(timed)

    def quantile(self, metric: str) -> float | None:
        """Return the quantile in a metric's name."""
        matched = _QUANTILE.fullmatch(metric.partition("[")[0])
        return int(matched[2]) / 100.0 if matched else None

    def timings(self, metric: str, variant: str) -> TimingSamples:
        """Return the values of all repeats of each unit (for inter-token latency, all gaps)."""
        quantity, quantile = self._asked(metric)
        units = self._served(metric, variant)
        values = {name: _pooled(quantity, repeats) for name, repeats in units.items()}
        present = {name: value for name, value in values.items() if value.size}
        return TimingSamples(tuple(present), tuple(present.values()), quantile)

    def distribution(self, metric: str, variant: str) -> Distribution | None:
        """Return all values of the timing behind a quantile metric, or None if the variant has none."""
        values = self.timings(metric, variant).values
        return Distribution(np.sort(np.concatenate(values))) if values else None

    def repeated(self, metric: str, variant: str) -> RepeatedValues:
        """Return one value per unit and repeat, for ratios: the quantile of its gaps, or the mean over its batch."""
        base = metric.partition("[")[0]
        units = self._served(metric, variant)
        if base == "latency.tokens_per_s":
            return {
                name: {repeat: tokens_per_s(records) or math.nan for repeat, records in repeats.items()}
                for name, repeats in units.items()
            }
        quantity, quantile = self._asked(metric)
        result: dict[str, dict[int, float]] = {}
        for name, repeats in units.items():
            for repeat, records in repeats.items():
                values = _pooled(quantity, {repeat: records})
                if values.size:
                    one = np.quantile(values, quantile) if quantity == "itl_ms" else values.mean()
                    result.setdefault(name, {})[repeat] = float(one)
        return result

    def throughput(self, metric: str, variant: str) -> Samples:
        """Return tokens and seconds of each unit, summed over its repeats."""
        units = self._served(metric, variant)
        rows = []
        for repeats in units.values():
            pairs = [tokens_and_seconds(records) for records in repeats.values()]
            rows.append((sum(tokens for tokens, _ in pairs), sum(seconds for _, seconds in pairs)))
        return from_statistics(list(units), rows, ratio_of_sums, columns=2)

    def goodput(self, metric: str, variant: str) -> Samples:
        """Return whether each request met the budgets in at least half of its repeats; a failed request met none."""
        condition = self.condition(metric)
        kept: dict[str, list[bool]] = {}
        batches: dict[str, str] = {}
        for record in sorted(self.records[variant][condition or self.main], key=lambda one: (one.id, one.repeat)):
            within = within_budget(record, *self._budgets)
            if within is not None and record.skipped is None:
                windowed = of_server(record) and record.batch > 1
                unit = f"{record.id} {record.submitted_ns}" if windowed else record.id
                kept.setdefault(unit, []).append(within)
                batches.setdefault(unit, record.id if windowed else f"{record.repeat} {record.submitted_ns}")
        values = [float(2 * sum(flags) >= len(flags)) for flags in kept.values()]
        clusters = list(batches.values()) if condition is not None and condition.batch > 1 else None
        return from_values(list(kept), values, kind="rate", clusters=clusters)

    def errors(self, metric: str, variant: str) -> Samples:
        """Return whether each request to a server failed; those sent together are one cluster."""
        condition = self.condition(metric) or self.main
        rows = [one for one in self.records[variant].get(condition, ()) if one.skipped is None]
        values = [float(one.error is not None) for one in rows]
        clusters = [f"{one.id} {one.repeat}" for one in rows]
        return from_values([f"{n} {one.id}" for n, one in enumerate(rows)], values, kind="rate", clusters=clusters)

    def floor(self, metric: str, variant: str) -> float | None:
        """Return the hardware's lower bound in milliseconds for the timing behind a utilisation.

        This is one decode step at the requests' mean context (prompt and half the reply), or a prompt of their length.
        """
        condition = self.condition(metric) or self.main
        roofline = self._rooflines.get(variant)
        records = finished(self.records.get(variant, {}).get(condition, ()))
        if roofline is None or not records:
            return self._floors.get(variant) if condition == self.main else None
        if condition.prompt_tokens is not None:
            return roofline.prefill_floor_ms(condition.prompt_tokens)
        context = float(np.mean([one.prompt_tokens + len(one.stamps_ns) / 2 for one in records]))
        return roofline.floor_ms(condition.batch, context)

    def _served_under(self, condition: Condition) -> int:
        """Return the number of variants with timings; one that an engine refused has records but no timing."""
        return sum(bool(finished(conditions.get(condition, ()))) for conditions in self.records.values())

    def _has(self, base: str, condition: Condition) -> bool:
        if base.startswith("latency.ttft_host_ms."):
            rows = (row for found in self.records.values() for row in finished(found.get(condition, ())))
            return any(row.launched_ns is not None for row in rows)
        if base == "latency.errors":
            return condition.engine == "server"
        if condition.workload == "prefill":  # one token, so there is no other timing
            return base.startswith("latency.ttft_ms.") or (base == "latency.prefill_mfu" and bool(self._rooflines))
        if base == "latency.goodput":
            return self._budgets != (None, None)
        if base == "latency.mbu":
            known = self._floors if condition == self.main else self._rooflines
            return condition.workload == "fixed" and condition.engine != "server" and bool(known)
        return base == "latency.tokens_per_s" or _QUANTILE.fullmatch(base) is not None

    def _asked(self, metric: str) -> tuple[str, float]:
        base = metric.partition("[")[0]
        matched = _QUANTILE.fullmatch(UTILISATIONS.get(base, base))
        if matched is None:
            raise InputError(f"{metric} is not a quantile of a timing.")
        return matched[1], int(matched[2]) / 100.0

    def _served(self, metric: str, variant: str) -> Units:
        condition = self.condition(metric) or self.main
        if (variant, condition) not in self._units:
            served = served_together(self.records.get(variant, {}).get(condition, ()))
            self._units[variant, condition] = dict(sorted(served.items()))
        return self._units[variant, condition]


def _floors(manifest: RunManifest) -> dict[str, float]:
    """Return ``provenance.roofline.VARIANT.floor_ms`` per variant."""
    roofline = manifest.provenance.get("roofline")
    facts = roofline.items() if isinstance(roofline, dict) else ()
    floors = {name: one.get("floor_ms") for name, one in facts if isinstance(one, dict)}
    return {name: float(one) for name, one in floors.items() if isinstance(one, int | float) and one > 0}


def _pooled(quantity: str, repeats: Mapping[int, list[LatencyRecord]]) -> FloatArray:
    records = [record for _, members in sorted(repeats.items()) for record in members]
    if quantity == "itl_ms":
        return np.concatenate([gaps_ms(record) for record in records]) if records else np.empty(0)
    values = [_PER_REQUEST[quantity](record) for record in records]
    return np.array([value for value in values if value is not None], dtype=np.float64)
