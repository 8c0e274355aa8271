"""Time to first token, time per token and throughput from the recorded stamps, for the charts of latency."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
class SweepPoint:
    """One batch size of a sweep: the median time per token and the tokens made in a second."""

    variant: str
    engine: str
    batch: int
    tpot_ms: float
    tokens_per_s: float
    requests: int


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
                timings.append(Timings(variant, engine, _ttft(single), _tpot(single)))
            sweep += _sweep(variant, engine, records)
    return Timed(tuple(timings), tuple(sweep), tuple(engines))


def _ttft(records: Sequence[LatencyRecord]) -> NDArray[np.float64]:
    return np.array([(record.stamps_ns[0] - record.submitted_ns) / 1e6 for record in records])


def _tpot(records: Sequence[LatencyRecord]) -> NDArray[np.float64]:
    return np.array(
        [(record.stamps_ns[-1] - record.stamps_ns[0]) / 1e6 / (len(record.stamps_ns) - 1) for record in records]
    )


def _sweep(variant: str, engine: str, records: Sequence[LatencyRecord]) -> list[SweepPoint]:
    """Return one point a batch size: requests submitted together are one batch, timed from submission to last token."""
    groups: dict[int, dict[int, list[LatencyRecord]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        if record.workload == "sweep":
            groups[record.batch][record.submitted_ns].append(record)
    points = []
    for size, batches in sorted(groups.items()):
        rates = []
        for batch in batches.values():
            seconds = (max(record.stamps_ns[-1] for record in batch) - batch[0].submitted_ns) / 1e9
            if seconds > 0:
                rates.append(sum(len(record.stamps_ns) for record in batch) / seconds)
        requests = [record for batch in batches.values() for record in batch]
        if rates:
            points.append(
                SweepPoint(
                    variant, engine, size, float(np.median(_tpot(requests))), float(np.median(rates)), len(requests)
                )
            )
    return points
