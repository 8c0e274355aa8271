"""Memory as the page shows it: the components of each variant's peak, and other figures of the same processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reports.numbers import amount
from reports.view import RunView

_PARTS = {"weights_mib": "weights", "kv_cache_mib": "KV cache", "activations_mib": "activations"}
_FIGURES = {
    "peak_allocated_mib": "peak allocated",
    "peak_reserved_mib": "peak reserved",
    "nvml_used_mib": "NVML used",
    "peak_rss_mib": "peak RSS",
    "disk_mib": "on disk",
}


@dataclass(frozen=True)
class Breakdown:
    """``parts`` add up to the peak, in MiB; ``figures`` is formatted text."""

    variant: str
    device: str
    parts: Mapping[str, float]
    figures: str
    spread: float | None  # of the peak between repeats, as a share

    @property
    def total(self) -> float:
        return sum(self.parts.values())


def breakdowns(view: RunView) -> tuple[Breakdown, ...]:
    """Return the breakdown of every variant whose memory was measured."""
    found = [
        _breakdown(view, variant, records[0].device) for variant, records in view.measurements.memory.records.items()
    ]
    return tuple(row for row in found if row.parts)


def _breakdown(view: RunView, variant: str, device: str) -> Breakdown:
    words = {**_PARTS, "rest": "everything else in the process" if device == "cpu" else "other"}
    figures = [
        f"{word} {amount(size, unit='MiB')[0]}"
        for name, word in _FIGURES.items()
        if (size := view.measurements.memory.median(f"memory.{name}", variant)) is not None
    ]
    if (seconds := view.measurements.memory.median("memory.load_seconds", variant)) is not None:
        figures.append(f"load time {seconds:.1f}\u00a0s")
    parts = {words[part]: size for part, size in view.measurements.memory.parts(variant).items()}
    return Breakdown(variant, device, parts, "; ".join(figures), view.measurements.memory.spread(variant))
