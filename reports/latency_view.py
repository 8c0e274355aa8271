"""Time to first token, time per token and throughput from the recorded stamps, for the charts of latency."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.results.latency import SweepPoint, sweep_points
from harness.results.timings import tpot_ms, ttft_ms
from harness.store.schema import LatencyRecord
from reports.view import RunView


@dataclass(frozen=True)
class Timings:
    """One variant on one engine, batch 1 and fixed reply length: one value a request, in milliseconds."""

    variant: str
    engine: str
    ttft_ms: NDArray[np.float64]
    tpot_ms: NDArray[np.float64]

    @property
    def name(self) -> str:
        return self.variant


@dataclass(frozen=True)
class Timed:
    """All that the latency records of a run hold for the page."""

    timings: tuple[Timings, ...]
    sweep: tuple[SweepPoint, ...]
    engines: tuple[str, ...]


def read_timed(view: RunView) -> Timed:
    """Read every variant's latency records; requests that failed or were skipped are left out."""
    timings: list[Timings] = []
    sweep: list[SweepPoint] = []
    engines: dict[str, None] = {}
    for variant in view.variants:
        by_engine: dict[str, list[LatencyRecord]] = defaultdict(list)
        for record in view.folder.records(LatencyRecord, "latency", variant):
            if len(record.stamps_ns) >= 2 and record.error is None and record.skipped is None:
                by_engine[record.engine].append(record)
        for engine, records in by_engine.items():
            engines[engine] = None
            single = [record for record in records if record.workload == "fixed" and record.batch == 1]
            if single:
                timings.append(Timings(variant, engine, _values(ttft_ms, single), _values(tpot_ms, single)))
            sweep += sweep_points(variant, engine, records)
    return Timed(tuple(timings), tuple(sweep), tuple(engines))


def _values(timing: Callable[[LatencyRecord], float | None], records: Sequence[LatencyRecord]) -> NDArray[np.float64]:
    return np.array([value for value in map(timing, records) if value is not None], dtype=np.float64)
