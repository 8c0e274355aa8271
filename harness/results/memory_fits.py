"""``memory.json``: the parts of each variant's memory, and what fits on which card."""

from __future__ import annotations

import statistics
from typing import Any

from harness.store.folder import RunFolder
from harness.store.schema import MemoryRecord

CARDS_GB = (8, 12, 16, 24, 40, 80)
WORKLOADS = ((1, 1024), (1, 4096), (8, 2048), (32, 2048))  # batch, context
PARTS = (
    "weights_mib", "kv_cache_mib", "activations_mib", "peak_allocated_mib", "peak_reserved_mib", "nvml_used_mib",
    "peak_rss_mib", "disk_mib", "load_seconds",
)  # fmt: skip
AGREEMENT = 0.01


def memory_table(folder: RunFolder, variants: list[str]) -> dict[str, Any]:
    """Return each variant's parts (medians over its fresh processes), whether repeats agreed, and what fits where."""
    table: dict[str, Any] = {"schema": 1, "variants": {}, "fits": [], "cards_gb": list(CARDS_GB)}
    for variant in variants:
        records = folder.records(MemoryRecord, "memory", variant)
        good = [record for record in records if record.error is None and record.skipped is None]
        if not good:
            if records:
                table["variants"][variant] = {"error": records[-1].error or records[-1].skipped}
            continue
        parts = {part: _median([getattr(record, part) for record in good]) for part in PARTS}
        peak = "peak_allocated_mib" if parts["peak_allocated_mib"] is not None else "peak_rss_mib"
        spread = _spread([getattr(record, peak) for record in good])
        extra = good[0].model_extra or {}
        table["variants"][variant] = {
            **parts,
            "device": good[0].device,
            "repeats": len(good),
            "spread": spread,
            "repeats_agree": None if spread is None else spread <= AGREEMENT,
            "kv_bytes_per_token": extra.get("kv_bytes_per_token"),
        }
        if good[0].device.startswith("cuda"):
            loading = _median([(record.model_extra or {}).get("peak_loading_mib") for record in good])
            table["variants"][variant]["peak_loading_mib"] = loading
            table["fits"].extend(_fits(variant, table["variants"][variant], _activation_growth(good[0])))
    return table


def _fits(variant: str, parts: dict[str, Any], growth: tuple[float, float]) -> list[dict[str, Any]]:
    """Return what batch x context needs: weights, cache, activations, and what the driver holds besides.

    Activations are those of a prompt that fills the whole context at once, the worst that can come. A model that takes
    more while it is loaded does not fit before.
    """
    overhead = max(0.0, (parts["nvml_used_mib"] or 0.0) - (parts["peak_reserved_mib"] or 0.0))
    fixed, each = growth
    rows = []
    for batch, context in WORKLOADS:
        kv = batch * context * (parts["kv_bytes_per_token"] or 0) / 2**20
        serving = (parts["weights_mib"] or 0.0) + kv + fixed + each * batch * context
        need = max(serving, parts["peak_loading_mib"] or 0.0) + overhead
        # A card sold as 24 GB has at least 24 x 10^9 bytes; a little is never free.
        fits = {str(card): need <= 0.97 * card * 1e9 / 2**20 for card in CARDS_GB}
        rows.append({"variant": variant, "batch": batch, "context": context, "need_mib": need, "fits": fits})
    return rows


def _activation_growth(record: MemoryRecord) -> tuple[float, float]:
    """Return the MiB that activations take whatever the prompt, and those for each of its tokens.

    From two lengths of prompt, each without a reply; dequantised weights, for one, are held whatever the length.
    """
    extra = record.model_extra or {}
    workload, shorter, longer = (
        extra.get(name) for name in ("workload", "activations_shorter_mib", "activations_prompt_mib")
    )
    if not workload or shorter is None or longer is None:
        return record.activations_mib or 0.0, 0.0
    tokens = workload["batch"] * (workload["prompt_tokens"] - workload["shorter_prompt_tokens"])
    each = max(0.0, (longer - shorter) / tokens) if tokens > 0 else 0.0
    return max(0.0, longer - each * workload["batch"] * workload["prompt_tokens"]), each


def _median(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _spread(values: list[float | None]) -> float | None:
    """Largest less smallest, as a share of the median; None for a single repeat."""
    known = [value for value in values if value is not None]
    middle = statistics.median(known) if known else 0
    return (max(known) - min(known)) / middle if len(known) > 1 and middle else None
