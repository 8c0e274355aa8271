"""``latency.json``: what the latency pass finds out besides stamps. It stays when a run is interrupted and goes on.

``limits`` and ``variants.NAME.footprint`` make the rooflines; ``machine`` holds the machine's state before and after
each sitting; ``warm_up`` the seconds that went into warming up and, of these, into capture.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.backends.base import Capability
from harness.files import write_json
from harness.passes.base import PassContext
from harness.passes.latency.units import Stage
from harness.store.folder import RunFolder

FILE = "latency.json"
CONTEXTS = (1024, 4096)


def facts_path(folder: RunFolder) -> Path:
    return folder.root / FILE


def read_facts(folder: RunFolder) -> dict[str, Any]:
    """Return the facts so far (empty ones where the pass is new, or where the file cannot be read)."""
    empty: dict[str, Any] = {"schema": 1, "limits": None, "variants": {}, "machine": [], "warm_up": {}}
    try:
        known = json.loads(facts_path(folder).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return empty
    return {**empty, **known} if isinstance(known, dict) else empty


def write_facts(folder: RunFolder, facts: dict[str, Any]) -> None:
    write_json(facts_path(folder), facts)


def find_rooflines(context: PassContext, fixed: Stage | None) -> dict[str, Any]:
    """Return ``limits`` of the machine, and ``variants`` with each one's bytes, as far as the backends tell.

    ``fixed`` is the batch-1 workload, whose typical context the floor of one step is given at.
    """
    middle = 0.0 if fixed is None else sum(u.longest + u.reply_tokens / 2 for u in fixed.units) / len(fixed.units)
    found: dict[str, Any] = {"limits": None, "variants": {}}
    for variant in context.variants:
        backend = context.backends.of(variant)
        if Capability.ROOFLINE not in backend.capabilities:
            continue
        hardware = backend.hardware()
        sizes, memory = hardware.footprint, hardware.memory_bytes
        found |= {"limits": asdict(hardware.limits), "device_memory_bytes": memory}
        found["variants"][variant.name] = {
            "floor_ms": 1e3 * sizes.step_floor_s(hardware.limits, 1, middle),
            "floor_context": middle,
            "weights_bytes": sizes.weights,
            "streamed_bytes": sizes.streamed,
            "adapter_bytes": sizes.adapter,
            "kv_bytes_per_token": sizes.kv_per_token,
            "largest_batch": {str(length): sizes.rows_that_fit(memory, length) for length in CONTEXTS},
            "footprint": asdict(sizes),
        }
    return found


def tell(context: PassContext, facts: dict[str, Any]) -> None:
    """Put the facts into the run's provenance, where page and tables look for them."""
    limits = facts["limits"]
    if limits:
        shown = {
            "bandwidth_gb_s": limits["bandwidth_bytes_s"] / 1e9,
            "matmul_tflops": limits["matmul_flops_s"] / 1e12,
            "limits_dtype": limits["dtype"],
        }
        every = {"limits": limits, **shown}
        context.fact("roofline", {name: {**every, **one} for name, one in facts["variants"].items()})
    if facts["machine"]:
        context.fact("machine_state", facts["machine"][-1])
    context.fact("latency_warm_up", facts["warm_up"])
