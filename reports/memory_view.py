"""Memory as the page shows it: what takes it, and which card it fits on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from harness.errors import InputError
from harness.store.schema import MemoryRecord
from reports.numbers import amount
from reports.view import RunView

_PARTS = (("weights", "weights_mib"), ("KV cache", "kv_cache_mib"), ("activations", "activations_mib"))
_EXTRA = (
    ("peak allocated", "peak_allocated_mib"),
    ("peak reserved", "peak_reserved_mib"),
    ("NVML used", "nvml_used_mib"),
    ("peak RSS", "peak_rss_mib"),
    ("on disk", "disk_mib"),
)


@dataclass(frozen=True)
class Breakdown:
    """Medians over repeats, in MiB. ``parts`` add up to ``total``."""

    variant: str
    device: str
    parts: tuple[tuple[str, float], ...]
    extra: tuple[tuple[str, str], ...]
    spread: float | None  # largest relative difference of the peak between repeats

    @property
    def total(self) -> float:
        return sum(size for _, size in self.parts)


@dataclass(frozen=True)
class Fits:
    """One line of "what fits where": a variant and workload, and for each card yes or no and why."""

    variant: str
    workload: str
    needed: str
    cards: tuple[bool | None, ...]


@dataclass(frozen=True)
class Memory:
    """All that a run holds about memory."""

    breakdowns: tuple[Breakdown, ...]
    fits: tuple[Fits, ...]
    cards: tuple[str, ...]


def read_memory(view: RunView) -> Memory:
    """Read the memory records and ``memory.json``; absent files give empty parts."""
    found = [row for variant in view.variants if (row := _breakdown(view, variant))]
    cards, fits = _fits(view)
    return Memory(tuple(found), fits, cards)


def _breakdown(view: RunView, variant: str) -> Breakdown | None:
    records = [row for row in view.folder.records(MemoryRecord, "memory", variant) if not row.error and not row.skipped]
    if not records:
        return None
    parts = [(word, size) for word, key in _PARTS if (size := _median(records, key)) is not None]
    peak_key = "peak_rss_mib" if records[0].device == "cpu" else "peak_allocated_mib"
    peak = _median(records, peak_key)
    if peak is not None and (rest := peak - sum(size for _, size in parts)) > 0.01 * peak:
        # On a CPU the peak holds the interpreter and its libraries too; nothing is left unexplained in the bar.
        parts.append(("everything else in the process" if records[0].device == "cpu" else "other", rest))
    if not parts:
        return None
    extra = [(word, amount(size, unit="MiB")[0]) for word, key in _EXTRA if (size := _median(records, key)) is not None]
    if (seconds := _median(records, "load_seconds")) is not None:
        extra.append(("load time", f"{seconds:.1f}\u00a0s"))
    peaks = [value for row in records if (value := getattr(row, peak_key)) is not None]
    spread = (max(peaks) - min(peaks)) / max(peaks) if len(peaks) > 1 and max(peaks) > 0 else None
    return Breakdown(variant, records[0].device, tuple(parts), tuple(extra), spread)


def _median(records: list[MemoryRecord], key: str) -> float | None:
    values = [value for row in records if (value := getattr(row, key)) is not None]
    return median(values) if values else None


def _fits(view: RunView) -> tuple[tuple[str, ...], tuple[Fits, ...]]:
    path = view.folder.memory_path
    if not path.is_file():
        return (), ()
    try:
        raw: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path} cannot be read ({str(error)[:80]}). Run the memory pass again to replace it."
        ) from error
    rows = raw.get("fits") if isinstance(raw, Mapping) else None
    cards: dict[str, None] = {}
    found = []
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, Mapping) and isinstance(row.get("fits"), Mapping):
            cards |= dict.fromkeys(str(card) for card in row["fits"])
            found.append(row)
    fits = []
    for row in found:
        needed = row.get("need_mib")
        answers = tuple(answer if isinstance(answer := row["fits"].get(card), bool) else None for card in cards)
        workload = f"batch {row.get('batch', '?')}, {row.get('context', '?')} tokens"
        shown = amount(float(needed), unit="MiB")[0] if isinstance(needed, (int, float)) else "–"
        fits.append(Fits(str(row.get("variant", "")), workload, shown, answers))
    return tuple(cards), tuple(fits)
