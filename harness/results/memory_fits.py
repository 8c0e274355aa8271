"""``memory.json``: the components of each variant's memory, and which cards a workload fits on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.files import Row, read_model
from harness.results.memory import AGREE_WITHIN, Memory
from harness.store.folder import RunFolder
from harness.store.schema import MemoryRecord

CARDS_GB = (8, 12, 16, 24, 40, 80)
WORKLOADS = ((1, 1024), (1, 4096), (8, 2048), (32, 2048))  # batch, context
PARTS = (
    "weights_mib", "kv_cache_mib", "activations_mib", "peak_allocated_mib", "peak_reserved_mib", "nvml_used_mib",
    "peak_rss_mib", "disk_mib", "load_seconds",
)  # fmt: skip


class Fit(Row):
    """The memory a variant needs for a batch of requests of ``context`` tokens each, and the cards (GB) it fits on."""

    variant: str
    batch: int
    context: int
    need_mib: float
    fits: dict[str, bool]


class _Fits(Row):
    fits: tuple[Fit, ...] = ()


def read_fits(path: Path) -> tuple[Fit, ...]:
    """Return the card table of ``memory.json``: empty if there is no such file, InputError if it is damaged."""
    return read_model(_Fits, path).fits if path.is_file() else ()


def memory_table(folder: RunFolder, variants: list[str]) -> dict[str, Any]:
    """Return each variant's components (medians over fresh processes), whether repeats agreed, and the card table."""
    table: dict[str, Any] = {"schema": 1, "variants": {}, "fits": [], "cards_gb": list(CARDS_GB)}
    memory = Memory(folder, tuple(variants))
    for variant in variants:
        good = memory.records.get(variant)
        if not good:
            if failed := folder.records(MemoryRecord, "memory", variant):
                table["variants"][variant] = {"error": failed[-1].error or failed[-1].skipped}
            continue
        spread = memory.spread(variant)
        found = {
            **{part: memory.median(f"memory.{part}", variant) for part in PARTS},
            "device": good[0].device,
            "repeats": len(good),
            "spread": spread,
            "repeats_agree": None if spread is None else spread <= AGREE_WITHIN,
            "kv_bytes_per_token": (good[0].model_extra or {}).get("kv_bytes_per_token"),
        }
        if good[0].device.startswith("cuda"):
            found["peak_loading_mib"] = memory.median("memory.peak_loading_mib", variant)
            table["fits"] += [fit.model_dump() for fit in _fits(variant, found, _activation_growth(good[0]))]
        table["variants"][variant] = found
    return table


def _fits(variant: str, parts: dict[str, Any], growth: tuple[float, float]) -> list[Fit]:
    """Return the memory that each workload needs: weights, cache, activations and the driver's overhead.

    Activations are those of a prompt that fills the whole context at once, the worst case. A model whose peak while
    loading is higher needs that much.
    """
    overhead = max(0.0, (parts["nvml_used_mib"] or 0.0) - (parts["peak_reserved_mib"] or 0.0))
    fixed, each = growth
    rows = []
    for batch, context in WORKLOADS:
        kv = batch * context * (parts["kv_bytes_per_token"] or 0) / 2**20
        serving = (parts["weights_mib"] or 0.0) + kv + fixed + each * batch * context
        need = max(serving, parts["peak_loading_mib"] or 0.0) + overhead
        # A card sold as 24 GB has at least 24 x 10^9 bytes, never all of them free.
        fits = {str(card): need <= 0.97 * card * 1e9 / 2**20 for card in CARDS_GB}
        rows.append(Fit(variant=variant, batch=batch, context=context, need_mib=need, fits=fits))
    return rows


def _activation_growth(record: MemoryRecord) -> tuple[float, float]:
    """Return the fixed and the per-token MiB of activations.

    Derived from two prompt lengths, each without a reply; dequantised weights, for example, are part of the fixed term.
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
